package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/docs/page"
)

// The API server takes every sample as it is: what a person copies must work, and name no field that there is not.
func TestSamplesApply(t *testing.T) {
	ns := namespace(t)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	makeNamespace(t, "checkpoint-system") // where the operator has its Secrets
	files, err := filepath.Glob(filepath.Join(root, "manifests/samples/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are %d samples: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(filepath.Base(file), "restorepolicy-") && !strings.HasPrefix(string(data), "# ") {
				t.Error("it does not say what it is for")
			}
			applies(t, ns, file)
		})
	}
}

// So does it with every whole object in a page; tests/docs/page says which blocks are such.
func TestObjectsInThePagesApply(t *testing.T) {
	ns := namespace(t)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := page.All(root)
	if err != nil {
		t.Fatal(err)
	}
	makeNamespace(t, "my-apps")
	for _, p := range pages {
		for _, b := range p.Blocks {
			if b.Language != "yaml" || b.Note != "" {
				continue
			}
			t.Run(p.At(b.Line), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "object.yaml")
				if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
					t.Fatal(err)
				}
				applies(t, ns, file)
			})
		}
	}
}

// applies has the API server say whether it would take what is in a file, in the namespace unless the file names one.
func applies(t *testing.T, ns, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file}
	if !strings.Contains(string(data), "\n  namespace: ") {
		words = append(words, "--namespace="+ns)
	}
	if output, err := kubectl(t.Context(), words...); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// makeNamespace makes a namespace of that name if there is none.
func makeNamespace(t *testing.T, name string) {
	t.Helper()
	wanted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := shared.Client.CoreV1().Namespaces().Create(t.Context(), wanted, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}
