package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestTheGateSaysWhatItWaitsFor(t *testing.T) {
	pod := capture.Pod{Namespace: "default", Name: "a", UID: "1234"}
	for what, test := range map[string]struct {
		agent bool
		hint  string
		fails bool
		want  string
	}{
		"an agent that says why":                {agent: true, hint: "fetching 3.1 of 8 GiB", want: "fetching 3.1 of 8 GiB"},
		"an agent that is silent":               {agent: true, want: "waiting for the checkpoint agent to decide about pod default/a"},
		"no agent, and an old hint":             {hint: "fetching 3.1 of 8 GiB", want: "checkpoint agent not running on this node; the pod starts cold in 4m"},
		"no agent, and a policy that says Fail": {fails: true, want: "not restored, and RestorePolicy mine says Fail: checkpoint agent not running on this node"},
	} {
		t.Run(what, func(t *testing.T) {
			f := &front{node: capture.Node{Root: t.TempDir()}}
			if test.agent {
				hold(t, f.node.AgentLock())
			}
			if test.hint != "" {
				if err := f.node.Hint(pod.UID, capture.WaitingHint, test.hint); err != nil {
					t.Fatal(err)
				}
			}
			if test.fails {
				if err := f.node.Hint(pod.UID, capture.FailingHint, "mine"); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := f.await(pod)
				if err == nil || !strings.HasPrefix(err.Error(), test.want) {
					t.Errorf("it says %v, want %q", err, test.want)
				}
				if waited := time.Since(began); waited < gatePatience || waited > gatePatience+time.Second {
					t.Errorf("it waited %s", waited)
				}
			})
		})
	}
}

func hold(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutAnAgentThePodStartsColdInTheEnd(t *testing.T) {
	f, pod := &front{node: capture.Node{Root: t.TempDir()}}, capture.Pod{UID: "1234"}
	gate := filepath.Join(f.node.Root, "run/checkpoint/gates", pod.UID)
	if _, err := f.waitingSince(pod.UID); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-agentPatience)
	if err := os.Chtimes(gate, long, long); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	decided := make(chan *capture.Decision, 1)
	go func() {
		decision, err := f.awaitFor(pod, time.Millisecond)
		if err != nil {
			t.Error(err)
		}
		decided <- decision
	}()
	if decision := <-decided; decision == nil || decision.Action != capture.Cold || decision.Reason != keys.ColdAgentUnavailable {
		t.Errorf("after %s it decided %+v", time.Since(began), decision)
	}
}

func TestWhileTheOperatorIsPausedNobodyWaitsForAnAgentThatIsGone(t *testing.T) {
	f, pod := &front{node: capture.Node{Root: t.TempDir()}}, capture.Pod{UID: "1234"}
	if err := f.node.Hint(pod.UID, capture.FailingHint, "mine"); err != nil { // which does not count then
		t.Fatal(err)
	}
	if err := f.node.Pause("the whole operator is paused"); err != nil {
		t.Fatal(err)
	}
	d, err := f.awaitFor(pod, time.Hour)
	if err != nil || d.Action != capture.Cold || d.Reason != keys.ColdPaused || d.Message != "the whole operator is paused" {
		t.Errorf("it decided %+v, %v", d, err)
	}
	if err := f.node.Resume(); err != nil {
		t.Fatal(err)
	}
	if d, err := f.awaitFor(capture.Pod{UID: "5678"}, time.Millisecond); err == nil {
		t.Errorf("after the pause it decided %+v", d)
	}
}

func TestAPodThatMustNotStartColdWaitsForAnAgentForEver(t *testing.T) {
	f, pod := &front{node: capture.Node{Root: t.TempDir()}}, capture.Pod{UID: "1234"}
	if err := f.node.Hint(pod.UID, capture.FailingHint, "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.waitingSince(pod.UID); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-10 * agentPatience)
	if err := os.Chtimes(f.gateFile(pod.UID), long, long); err != nil {
		t.Fatal(err)
	}
	if d, err := f.awaitFor(pod, time.Millisecond); err == nil {
		t.Errorf("it decided %+v", d)
	}
}

func TestTheGateWaitsWhereThePowerCutTookTheState(t *testing.T) {
	for what, test := range map[string]struct {
		agent bool
		want  string
	}{
		"with an agent, which fetches again": {agent: true, want: "waiting for the checkpoint agent to decide about pod default/a"},
		"without, as a cold start was refused before the power was cut": {
			want: "not restored, and RestorePolicy mine says Fail: checkpoint agent not running on this node",
		},
	} {
		t.Run(what, func(t *testing.T) {
			f, pod := &front{node: capture.Node{Root: t.TempDir()}}, capture.Pod{Namespace: "default", Name: "a", UID: "1234"}
			boots(t, f.node, "first")
			d := capture.Decision{Action: capture.Restore, Containers: []string{"c"}, Fallback: capture.Refuse, Policy: "mine"}
			if err := f.node.Decide(pod.UID, d); err != nil {
				t.Fatal(err)
			}
			if _, err := f.awaitFor(pod, 0); err != nil {
				t.Fatal(err)
			}
			boots(t, f.node, "second")
			if test.agent {
				hold(t, f.node.AgentLock())
			}
			if _, err := f.awaitFor(pod, time.Millisecond); err == nil || err.Error() != test.want {
				t.Errorf("it says %v, want %q", err, test.want)
			}
		})
	}
}

// boots gives a node a boot id.
func boots(t *testing.T, node capture.Node, id string) {
	t.Helper()
	file := filepath.Join(node.Root, "proc/sys/kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(id), 0o600); err != nil {
		t.Fatal(err)
	}
}
