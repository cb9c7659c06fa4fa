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
	for _, workload := range []struct{ kind, name string }{{"Deployment", Manager}, {"DaemonSet", Agent}} {
		patch(&out, workload.kind, workload.name, fmt.Sprintf("metadata: {annotations: {%s: %q}}", imagesAnnotation, digests[workload.name]))
	}
	if shim {
		out.WriteString("# This kernel gives root no CAP_SYS_RESOURCE. The nodes have a criu that works without it.\n")
		patch(&out, "DaemonSet", Agent, fmt.Sprintf("spec: {containers: [{name: agent, args: [--criu-directory=%s]}]}", shimmedCRIU))
	}
	return out.String()
}

// patch adds to the pods of a workload.
func patch(out *strings.Builder, kind, name, template string) {
	fmt.Fprintf(out, `- target: {kind: %[1]s, name: %[2]s}
  patch: |
    apiVersion: apps/v1
    kind: %[1]s
    metadata: {name: %[2]s}
    spec: {template: {%[3]s}}
`, kind, name, template)
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
