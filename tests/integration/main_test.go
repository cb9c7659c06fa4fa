package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// clusterName is that of the cluster that all tests share.
var clusterName = lab.NameOr("integration")

// shared is the cluster of the tests, and client speaks of our kinds with it; nil where no cluster can be.
var (
	shared *lab.Cluster
	client *versioned.Clientset
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	if reason := lab.Unable(); reason != "" {
		fmt.Println("the tests on a real API server will be skipped:", reason)
		return m.Run()
	}
	ctx := context.Background()
	defer func() { // also when it came up only in part
		if _, err := lab.Localcluster(ctx, clusterName, "down"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if err := setUp(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func setUp(ctx context.Context) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	if shared, err = lab.Up(ctx, clusterName, "--nodes=1"); err != nil {
		return err
	}
	_, applied := kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(root, "manifests/crd/bases"))
	_, policy := kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, "manifests/policy"))
	_, class := kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, "manifests/runtimeclass"))
	_, waited := kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "-f", filepath.Join(root, "manifests/crd/bases"))
	if err := errors.Join(applied, policy, class, waited); err != nil {
		return err
	}
	client, err = versioned.NewForConfig(shared.Config)
	return err
}

func kubectl(ctx context.Context, args ...string) (string, error) {
	return lab.Localcluster(ctx, clusterName, append([]string{"kubectl", "--"}, args...)...)
}

// namespace returns a new namespace, or skips the test where there is no cluster.
func namespace(t *testing.T) string {
	t.Helper()
	needCluster(t)
	wanted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	made, err := shared.Client.CoreV1().Namespaces().Create(t.Context(), wanted, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Client.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return made.Name
}

func needCluster(t *testing.T) {
	t.Helper()
	if shared == nil {
		t.Skip(lab.Unable())
	}
}
