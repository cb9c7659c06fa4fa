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
)

// The API server takes every sample as it is: what a person copies must work, and name no field that there is not.
func TestSamplesApply(t *testing.T) {
	ns := namespace(t)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "checkpoint-system"}} // where the operator has its Secrets
	if _, err := shared.Client.CoreV1().Namespaces().Create(t.Context(), system, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
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
			words := []string{"apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file}
			if !strings.Contains(string(data), "\n  namespace: ") {
				words = append(words, "--namespace="+ns)
			}
			if output, err := kubectl(t.Context(), words...); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}
