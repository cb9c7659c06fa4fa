package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// shared is the cluster that the tests of this package share; nil where none can be.
var shared *lab.Cluster

// image is the name that the test program has on every node of the shared cluster.
const image = "localhost/testapp:e2e"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	if reason := lab.Unable(); reason != "" {
		fmt.Println("the tests on a real cluster will be skipped:", reason)
		return m.Run()
	}
	ctx := context.Background()
	name := lab.NameOr("e2e")
	defer func() {
		if code != 0 {
			lab.NoteDeadKernels(ctx, name)
		} else if lab.Keeps() {
			return
		}
		if err := (&lab.Cluster{Name: name}).Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	var err error
	if shared, err = lab.Up(ctx, name, lab.Nodes()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := loadTestApp(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if operator, err = install.Install(ctx, shared, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// loadTestApp builds the program that the tests run in pods and loads it on every node.
func loadTestApp(ctx context.Context) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	binary := filepath.Join(root, "build/images/testapp")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./tests/images/testapp")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build testapp: %w: %s", err, output)
	}
	_, err = lab.Localcluster(ctx, shared.Name, "image", "build", image, "--binary="+binary)
	return err
}

// cluster returns the shared cluster, or skips the test where there is none.
func cluster(t *testing.T) *lab.Cluster {
	t.Helper()
	if shared == nil {
		t.Skip(lab.Unable())
	}
	return shared
}
