package install

import (
	"fmt"
	"strings"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// kustomization is manifests/default with the digests of the images, so that new ones are rolled out, and with the node's own criu where
// the operator's would lack a capability.
func kustomization(base string, shim bool, digests map[string]string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "resources: [%s]\npatches:\n", base)
	for name, kind := range map[string]string{Manager: "Deployment", Agent: "DaemonSet"} {
		fmt.Fprintf(&out, `- target: {kind: %s, name: %s}
  patch: |
    kind: %[1]s
    metadata: {name: %[2]s}
    spec: {template: {metadata: {annotations: {%s: "%s"}}}}
`, kind, name, imagesAnnotation, digests[name])
	}
	if shim {
		fmt.Fprintf(&out, `# This kernel gives root no CAP_SYS_RESOURCE. The nodes have a criu that works without it.
- target: {kind: DaemonSet, name: %s}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --criu-directory=%s}
`, Agent, shimmedCRIU)
	}
	return out.String()
}

// location is the cluster's MinIO as the place for checkpoints.
func location(status lab.Status) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: %[1]s, namespace: %[2]s}
stringData: {accessKeyID: %[3]q, secretAccessKey: %[4]q}
---
apiVersion: checkpoint.memverge.ai/v1alpha1
kind: CheckpointStorageLocation
metadata: {name: %[5]s}
spec:
  endpoint: http://%[6]s
  bucket: %[7]s
  role: Default
  credentials: {secretName: %[1]s}
`, Credentials, Namespace, status.S3.AccessKey, status.S3.SecretKey, Location, status.S3.InCluster, Bucket)
}
