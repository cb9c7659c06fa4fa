package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// plugin builds the plugin once, and returns the folder that is put into PATH.
var plugin = sync.OnceValues(func() (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build/plugin")
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "kubectl-checkpoint"), "./cmd/kubectl-checkpoint")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kubectl-checkpoint: %w: %s", err, output)
	}
	return dir, nil
})

// checkpointCommand calls kubectl checkpoint in a namespace, as a person does: kubectl finds the plugin in the PATH.
func checkpointCommand(t *testing.T, c *lab.Cluster, namespace string, words ...string) (string, error) {
	t.Helper()
	dir, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	config := strings.TrimSpace(c.Run(t, "kubeconfig"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "../../bin/localcluster", append([]string{"--name=" + c.Name, "kubectl", "--", "checkpoint"}, words...)...)
	command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KUBECONFIG="+config)
	if namespace != "" {
		command.Args = append(command.Args, "--namespace="+namespace)
	}
	output, err := command.CombinedOutput()
	t.Logf("kubectl checkpoint %s:\n%s", strings.Join(words, " "), output)
	return string(output), err
}

// does calls a command that is to succeed.
func does(t *testing.T, w *workload, words ...string) string {
	t.Helper()
	output, err := checkpointCommand(t, w.c, w.ns, words...)
	if err != nil {
		t.Fatalf("kubectl checkpoint %s: %v", strings.Join(words, " "), err)
	}
	return output
}

// A person sees what becomes of a pod, has it captured, has another go on from that, and has it begin from scratch, with kubectl alone.
func TestAPersonCapturesAndRestoresWithKubectl(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, first := newWorkload(t, c, statefulSet, nil)
	before := waitForCount(t, c, first, 10)
	w.protectedAs(t, first, keys.CheckpointableProtected)
	left := v1alpha1.TerminationName(first.Name, first.UID)
	has(t, does(t, w, "why", first.Name), "Protected: yes", "Began: cold (NoCheckpoint)", "Checkpoint "+left, "available")

	output := does(t, w, "create", first.Name, "--name=mine", "--wait")
	has(t, output, "checkpoint/mine created", "Completed", "stood still for")
	has(t, does(t, w, "pin", "mine"), "pinned")
	has(t, does(t, w, "list", "sts/work", "-o", "wide"), "StatefulSet/work", "mine", "Completed", "Manual", "yes")
	has(t, does(t, w, "describe", "mine"), "frozen", "█", "Architecture", "Pinned")
	has(t, does(t, w, "list", "-o", "name"), "checkpoint.checkpoint.memverge.ai/mine\n")

	has(t, does(t, w, "restore", first.Name, "--from=mine", "--dry-run"), "✓   workload", "SourceRuns")
	if _, err := checkpointCommand(t, c, w.ns, "restore", first.Name, "--from=mine"); err == nil {
		t.Error("it restores from a pod that goes on")
	}

	has(t, does(t, w, "restart", first.Name), "began from scratch", left+" deleted")
	second := w.running(t, first)
	w.isCold(t, second, keys.ColdRestoreDisabled)
	w.noPolicyIsLeft(t)
	lab.Eventually(t, time.Minute, "what the restarted pod left goes", func() error {
		_, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), left, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})

	has(t, does(t, w, "restore", second.Name, "--from=mine"), "✓   workload", "restored from checkpoint/mine")
	third := w.running(t, second)
	w.goesOn(t, third, before, nil)
	if now := w.countOf(t, third); now.Count < before.Count || now.PID != before.PID {
		t.Errorf("it counts %+v, and counted %+v when it was captured", now, before)
	}
	w.noPolicyIsLeft(t)
	has(t, does(t, w, "why", third.Name), "restored", "mine")
	has(t, does(t, w, "list", "work-0"), "was restored")
	has(t, does(t, w, "delete", "mine", "--force"), "deleted")
	if output, err := checkpointCommand(t, c, w.ns, "describe", "nobody"); err == nil || !strings.Contains(output, `there is no Checkpoint "nobody"`) {
		t.Errorf("of a Checkpoint that there is not it says %v, %s", err, output)
	}
}

// noPolicyIsLeft checks that the command has taken its RestorePolicy away.
func (w *workload) noPolicyIsLeft(t *testing.T) {
	t.Helper()
	policies, err := operator.Checkpoints.CheckpointV1alpha1().RestorePolicies(w.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range policies.Items {
		if p.Spec.Selector != nil {
			t.Errorf("RestorePolicy %s is left", p.Name)
		}
	}
}

// A location is tried at once when somebody asks for it.
func TestALocationIsCheckedWithKubectl(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	output, err := checkpointCommand(t, c, "", "location", "list")
	if err != nil {
		t.Fatal(err)
	}
	has(t, output, "Validated", "Default (in use)")
	name := strings.Fields(strings.Split(output, "\n")[1])[0]
	if output, err = checkpointCommand(t, c, "", "location", "check", name); err != nil {
		t.Fatal(err)
	}
	has(t, output, "can be used")
	if output, err = checkpointCommand(t, c, "", "status"); err != nil {
		t.Fatal(err)
	}
	has(t, output, "2 of 2 are ready", "Location "+name, "available, the default")
}
