package install

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

func TestTheKustomizationPatchesBothWorkloads(t *testing.T) {
	for name, test := range map[string]struct {
		shim    bool
		patches []string // kind, annotation or argument of each
	}{
		"on an ordinary kernel":                {patches: []string{"Deployment m", "DaemonSet a"}},
		"on a kernel without CAP_SYS_RESOURCE": {shim: true, patches: []string{"Deployment m", "DaemonSet a", "DaemonSet --criu-directory=/usr/local/sbin"}},
	} {
		var got struct {
			Resources []string
			Patches   []struct {
				Target struct{ Kind, Name string }
				Patch  string
			}
		}
		text := kustomization("../../manifests/default", test.shim, map[string]string{Manager: "m", Agent: "a"})
		if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, text)
		}
		var patches []string
		for _, patch := range got.Patches {
			var workload appsv1.DaemonSet // what is patched is the same in a Deployment
			if err := yaml.UnmarshalStrict([]byte(patch.Patch), &workload); err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, patch.Patch)
			}
			what := workload.Spec.Template.Annotations[imagesAnnotation]
			for _, container := range workload.Spec.Template.Spec.Containers {
				what += strings.Join(container.Args, " ")
			}
			patches = append(patches, patch.Target.Kind+" "+what)
		}
		if diff := cmp.Diff(test.patches, patches); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestTheLocationNamesItsSecret(t *testing.T) {
	var status lab.Status
	status.S3.InCluster, status.S3.AccessKey, status.S3.SecretKey = "10.10.0.1:9000", "access", `se"cret`
	first, second, _ := strings.Cut(location(status), "---\n")
	var secret corev1.Secret
	if err := yaml.UnmarshalStrict([]byte(first), &secret); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{v1alpha1.CredentialsAccessKeyID: "access", v1alpha1.CredentialsSecretAccessKey: `se"cret`}
	if diff := cmp.Diff(want, secret.StringData); diff != "" || secret.Namespace != Namespace {
		t.Errorf("the Secret is in %s (-want +got)\n%s", secret.Namespace, diff)
	}
	var got v1alpha1.CheckpointStorageLocation
	if err := yaml.UnmarshalStrict([]byte(second), &got); err != nil {
		t.Fatal(err)
	}
	spec := v1alpha1.CheckpointStorageLocationSpec{
		Endpoint: "http://10.10.0.1:9000", Bucket: Bucket, Role: v1alpha1.RoleDefault,
		Credentials: v1alpha1.LocationCredentials{SecretName: secret.Name},
	}
	if diff := cmp.Diff(spec, got.Spec); diff != "" || got.Name != Location {
		t.Errorf("location %s (-want +got)\n%s", got.Name, diff)
	}
}
