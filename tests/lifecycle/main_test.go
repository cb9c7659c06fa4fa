package lifecycle

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// name is that of the cluster of these tests. The page brings it up; the tests after it go on with it.
var name = lab.NameOr("lifecycle")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	if reason := lab.Unable(); reason != "" {
		fmt.Println("the tests on a real cluster will be skipped:", reason)
		return m.Run()
	}
	defer func() {
		if code != 0 {
			lab.NoteDeadKernels(context.Background(), name)
		}
		if err := (&lab.Cluster{Name: name}).Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	return m.Run()
}

// cluster returns the cluster of these tests, which it brings up if need be.
func cluster(t *testing.T) *lab.Cluster {
	t.Helper()
	if reason := lab.Unable(); reason != "" {
		t.Skip(reason)
	}
	c, err := lab.Up(t.Context(), name, lab.Nodes()...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
