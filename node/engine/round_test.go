package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// ociStandIn does what an OCI runtime does for exec, without a container: the command is the leader of a session, and its number is in the file. A program
// "nope" cannot be started.
const ociStandIn = `#!/bin/sh
log=$2
case "$*" in *exec*) ;; *) exit 0 ;; esac
while [ "$1" != exec ]; do shift; done
file=$3; shift 4
if [ "$1" = nope ]; then echo '{"level":"error","msg":"exec: \"nope\": not found"}' >"$log"; exit 255; fi
exec setsid sh -c 'echo $$ >"$0"; exec "$@"' "$file" "$@"
`

// standIn is a container whose first process is this test, and a folder for what its hooks write.
func standIn(t *testing.T, name string) (*Container, string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pid"), strconv.Itoa(os.Getpid()))
	runtime := filepath.Join(dir, "runtime")
	if err := os.WriteFile(runtime, []byte(ociStandIn), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Container{
		ID: "id-" + name, Name: name, Pod: capture.Pod{UID: uidOfPod}, PIDFile: filepath.Join(dir, "pid"), Runtime: runtime,
		Settings: capture.Settings{GracePeriodSeconds: 120},
	}, dir
}

// shell is a hook that has a shell do something in a folder.
func shell(dir, script string) capture.Command {
	return capture.Command{Words: []string{"sh", "-c", "cd " + dir + "; " + script}, Timeout: time.Minute}
}

func in(c capture.Command, container string) capture.Command { c.Container = container; return c }

func breaking(c capture.Command) capture.Command { c.Breaks = true; return c }

func ran(container string, number int, state capture.HookState, message string) capture.HookRun {
	return capture.HookRun{
		Phase: capture.PreCheckpoint, Container: container, ContainerID: "id-" + container, Number: number, State: state, Message: message,
	}
}

var isHookRun = cmpopts.IgnoreFields(capture.HookRun{}, "Took")

func TestHooksAreRunInOrderEachOnce(t *testing.T) {
	a, dir := standIn(t, "a")
	b, _ := standIn(t, "b")
	fails := `echo first >&2; printf 'last\001\n\n' >&2; exit 3`
	const why = "exit code 3: last"
	for what, test := range map[string]struct {
		hooks     []capture.Command
		before    []capture.HookRun
		want      []capture.HookRun
		said, err string
	}{
		"in all containers, or one": {
			hooks: []capture.Command{shell(dir, "echo 1 >>said"), in(shell(dir, "echo 2 >>said"), "b"), in(shell(dir, "echo 3 >>said"), "other")},
			want: []capture.HookRun{ran("a", 1, capture.HookSucceeded, ""), ran("b", 1, capture.HookSucceeded, ""),
				ran("b", 2, capture.HookSucceeded, "")},
			said: "1\n1\n2\n",
		},
		"one that fails": {
			hooks: []capture.Command{in(shell(dir, fails), "a"), in(shell(dir, "echo 2 >>said"), "a")},
			want:  []capture.HookRun{ran("a", 1, capture.HookFailed, why), ran("a", 2, capture.HookSucceeded, "")},
			said:  "2\n",
		},
		"one that fails and breaks the rest off": {
			hooks: []capture.Command{breaking(shell(dir, fails)), shell(dir, "echo 2 >>said")},
			want:  []capture.HookRun{ran("a", 1, capture.HookFailed, why)},
			err:   `hook 1 of preCheckpoint in container "a" failed: ` + why,
		},
		"one that cannot be started": {
			hooks: []capture.Command{in(capture.Command{Words: []string{"nope"}, Timeout: time.Minute}, "a")},
			want:  []capture.HookRun{ran("a", 1, capture.HookFailed, `it cannot be started: exec: "nope": not found`)},
		},
		"one that had begun when the runtime was killed": {
			hooks:  []capture.Command{in(shell(dir, "echo 1 >>said"), "a"), in(shell(dir, "echo 2 >>said"), "a")},
			before: []capture.HookRun{ran("a", 1, capture.HookBegun, "")},
			want:   []capture.HookRun{ran("a", 1, capture.HookFailed, hookInterrupted), ran("a", 2, capture.HookSucceeded, "")},
			said:   "2\n",
		},
		"one that has succeeded before": {
			hooks:  []capture.Command{in(shell(dir, "echo 1 >>said"), "a")},
			before: []capture.HookRun{ran("a", 1, capture.HookSucceeded, "")},
			want:   []capture.HookRun{ran("a", 1, capture.HookSucceeded, "")},
		},
	} {
		t.Run(what, func(t *testing.T) {
			e := quiet(t)
			path := filepath.Join(t.TempDir(), "hooks.json")
			if err := (capture.HookReport{Runs: test.before}).Write(path); err != nil {
				t.Fatal(err)
			}
			err := e.openBook(path).run(t.Context(), capture.PreCheckpoint, test.hooks, []*Container{a, b})
			if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("the error is %v, want %q", err, test.err)
			}
			report, err := capture.ReadHookReport(path)
			if diff := cmp.Diff(test.want, report.Runs, isHookRun); diff != "" || err != nil {
				t.Errorf("%v; what was written (-want +got)\n%s", err, diff)
			}
			said, _ := os.ReadFile(filepath.Join(dir, "said"))
			if string(said) != test.said {
				t.Errorf("they said %q, want %q", said, test.said)
			}
			_ = os.Remove(filepath.Join(dir, "said"))
		})
	}
}

// A hook that hangs ends at its timeout, with all that it has started, and what it leaves running when it ends keeps nobody waiting.
func TestAHookEndsWithWhatItHasStarted(t *testing.T) {
	c, dir := standIn(t, "a")
	for what, test := range map[string]struct {
		script, want string
		timeout      time.Duration
	}{
		"it hangs":                 {"sleep 600 & echo $! >child; echo waiting >&2; wait", "it was killed after 300ms: waiting", 300 * time.Millisecond},
		"it leaves something":      {"sleep 600 >&- 2>&- & echo $! >child", "", time.Minute},
		"it leaves what holds one": {"sleep 600 & echo $! >child", "", time.Minute},
	} {
		t.Run(what, func(t *testing.T) {
			hook, began := shell(dir, test.script), time.Now()
			hook.Timeout = test.timeout
			err := c.execute(t.Context(), hook)
			if (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
				t.Errorf("it says %v, want %q", err, test.want)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			text, err := os.ReadFile(filepath.Join(dir, "child"))
			if err != nil {
				t.Fatal(err)
			}
			child, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			if group, err := cgroupOf(os.Getpid()); err == nil && !group.isRoot() && isAlive(child) { // a container has a group
				t.Errorf("process %d of the hook is left", child)
			}
		})
	}
}

func TestHooksAreGivenAPartOfTheGracePeriod(t *testing.T) {
	const half = "the pod is stopped, and half of its grace period was over, which is all that hooks may take"
	for what, test := range map[string]struct {
		signal string
		ago    time.Duration
		state  capture.HookState
		says   string
	}{
		"of one that goes on":              {state: capture.HookSucceeded},
		"of one that was stopped just now": {signal: "TERM", state: capture.HookSucceeded},
		"of one that was stopped long ago": {signal: "TERM", ago: 61 * time.Second, state: capture.HookFailed, says: half},
		"of one whose end was ordered":     {signal: "KILL", state: capture.HookFailed, says: "the end of the pod was ordered"},
	} {
		t.Run(what, func(t *testing.T) {
			e := quiet(t)
			c, dir := standIn(t, "a")
			c.Settings.PreCheckpoint = []capture.Command{shell(dir, "echo ran")}
			a := &attempt{engine: e, podUID: uidOfPod, members: []member{{Container: c}}, owed: signalsOf(e.Node, uidOfPod)}
			if err := os.MkdirAll(e.Node.Captures(uidOfPod), 0o700); err != nil {
				t.Fatal(err)
			}
			a.openHooks()
			if test.signal != "" {
				if err := a.owed.note(Signal{ContainerID: c.ID, Name: test.signal, Came: time.Now().Add(-test.ago)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.quiesce(t.Context()); err != nil { // it does not break the capture off
				t.Fatal(err)
			}
			if diff := cmp.Diff([]capture.HookRun{ran("a", 1, test.state, test.says)}, a.record.Hooks, isHookRun); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			a.openHooks() // as whoever finds the capture cut off
			if !a.hooks.has(capture.PreCheckpoint) {
				t.Error("what was run is not known any more")
			}
			a.members = nil // the container has ended, and another one has begun
			if a.openHooks(); a.hooks.has(capture.PreCheckpoint) {
				t.Error("what was run in another container counts")
			}
		})
	}
}

// cutOffCapture is the partial folder of a capture that was cut off in that state, and is not begun again, and what settles it.
func cutOffCapture(t *testing.T, c *Container, state capture.State, trigger capture.Trigger) (a *attempt, folder string) {
	t.Helper()
	e := quiet(t)
	folder = filepath.Join(e.Node.Captures(uidOfPod), "1.partial")
	for _, counter := range []string{attemptsFile, liveAttemptsFile} {
		write(t, filepath.Join(e.Node.Captures(uidOfPod), counter), "..")
	}
	record := &capture.Capture{State: state, Trigger: trigger, Sequence: 1}
	if state == capture.Failed {
		record.Failure = &capture.Failure{Reason: capture.ReasonDumpFailed}
	}
	if err := errors.Join(os.MkdirAll(folder, 0o700), record.Write(folder)); err != nil {
		t.Fatal(err)
	}
	return &attempt{engine: e, podUID: uidOfPod, members: []member{{Container: c}}, owed: signalsOf(e.Node, uidOfPod)}, folder
}

// Whoever finds a capture that was cut off runs the hooks behind it that had not begun, before the pod goes on or ends, and writes down what became of all.
func TestHooksOfACaptureThatWasCutOff(t *testing.T) {
	asks := capture.Trigger{Asks: &capture.Asks{Checkpoint: "c", UID: "c-uid"}}
	stopped := capture.Trigger{Signal: "SIGTERM"}
	post := func(number int, state capture.HookState, message string) capture.HookRun {
		r := ran("a", number, state, message)
		r.Phase = capture.PostCheckpoint
		return r
	}
	for what, test := range map[string]struct {
		trigger capture.Trigger
		state   capture.State
		signal  bool // is owed
		before  []capture.HookRun
		want    []capture.HookRun // in the record
		left    bool              // the book stays
		said    string
	}{
		"in the dump of a pod that goes on": {
			trigger: asks, state: capture.Dumping, before: []capture.HookRun{ran("a", 1, capture.HookSucceeded, "")}, said: "1\n2\n",
			want: []capture.HookRun{ran("a", 1, capture.HookSucceeded, ""), post(1, capture.HookSucceeded, ""), post(2, capture.HookSucceeded, "")},
		},
		"in a hook before it": {
			trigger: asks, state: capture.Dumping, before: []capture.HookRun{ran("a", 1, capture.HookBegun, "")}, said: "1\n2\n",
			want: []capture.HookRun{ran("a", 1, capture.HookFailed, hookInterrupted), post(1, capture.HookSucceeded, ""), post(2, capture.HookSucceeded, "")},
		},
		"in the first hook behind one that failed": {
			trigger: asks, state: capture.Failed, before: []capture.HookRun{post(1, capture.HookBegun, "")}, said: "2\n",
			want: []capture.HookRun{post(1, capture.HookFailed, hookInterrupted), post(2, capture.HookSucceeded, "")},
		},
		"when a stop signal has come, whose capture goes on with the same hooks": {
			trigger: asks, state: capture.Dumping, signal: true, before: []capture.HookRun{ran("a", 1, capture.HookSucceeded, "")},
			want: []capture.HookRun{ran("a", 1, capture.HookSucceeded, "")}, left: true,
		},
		"behind the last capture of a pod, which failed": {
			trigger: stopped, state: capture.Failed, signal: true, before: []capture.HookRun{post(1, capture.HookSucceeded, "")}, said: "2\n",
			want: []capture.HookRun{post(1, capture.HookSucceeded, ""), post(2, capture.HookSucceeded, "")},
		},
		"in the dump of the last capture, too often": {
			trigger: stopped, state: capture.Dumping, signal: true, said: "1\n2\n",
			want: []capture.HookRun{post(1, capture.HookSucceeded, ""), post(2, capture.HookSucceeded, "")},
		},
	} {
		t.Run(what, func(t *testing.T) {
			c, dir := standIn(t, "a")
			c.Settings.PostCheckpoint = []capture.Command{shell(dir, "echo 1 >>said"), shell(dir, "echo 2 >>said")}
			a, folder := cutOffCapture(t, c, test.state, test.trigger)
			e := a.engine
			if test.signal {
				if err := a.owed.note(Signal{ContainerID: c.ID, Name: "TERM", Came: time.Now()}); err != nil {
					t.Fatal(err)
				}
			}
			book := e.Node.CaptureHooksFile(uidOfPod)
			if err := (capture.HookReport{Runs: test.before}).Write(book); err != nil {
				t.Fatal(err)
			}
			a.openHooks()
			if err := a.settleOne(t.Context(), folder); err != nil {
				t.Fatal(err)
			}
			record, err := capture.Read(filepath.Join(e.Node.Captures(uidOfPod), "1"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, record.Hooks, isHookRun); diff != "" || record.State != capture.Failed {
				t.Errorf("it is %s; hooks (-want +got)\n%s", record.State, diff)
			}
			if said, _ := os.ReadFile(filepath.Join(dir, "said")); string(said) != test.said {
				t.Errorf("they said %q, want %q", said, test.said)
			}
			if _, err := os.Stat(book); (err == nil) != test.left {
				t.Errorf("the book: %v", err)
			}
			if _, owed := a.owed.stop(c.ID); owed != (test.signal && test.trigger.IsLive()) {
				t.Errorf("the stop signal is owed: %t", owed)
			}
		})
	}
}

// A captured pod goes on with the hooks that stand behind its capture, then those of its restore, each once, in the containers that were restored.
func TestHooksBehindARestore(t *testing.T) {
	e := quiet(t)
	restored, dir := standIn(t, "restored")
	cold, _ := standIn(t, "cold")
	for _, c := range []*Container{restored, cold} {
		if err := Remember(e.Node, c); err != nil {
			t.Fatal(err)
		}
	}
	decided(t, e, capture.Decision{Containers: []string{"restored", "cold"}})
	plan := capture.HookPlan{
		PostCheckpoint: []capture.Command{shell(dir, "echo behind the capture >>said")}, PostRestore: []capture.Command{shell(dir, "echo behind the restore >>said")},
	}
	results := []capture.Result{
		{Container: "restored", ContainerID: restored.ID, Outcome: capture.Restored}, {Container: "cold", ContainerID: cold.ID, Outcome: capture.RestoreFailed},
	}
	if err := capture.NoteJSON(e.Node.HookPlanFile(uidOfPod), plan); err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if err := capture.NoteJSON(e.Node.ResultFile(uidOfPod, r.Container), r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // as when the agent asks again
		if err := e.AfterRestore(t.Context(), uidOfPod); err != nil {
			t.Fatal(err)
		}
	}
	said, _ := os.ReadFile(filepath.Join(dir, "said"))
	if string(said) != "behind the capture\nbehind the restore\n" {
		t.Errorf("they said %q", said)
	}
	report, err := capture.ReadHookReport(e.Node.RestoreHooksFile(uidOfPod))
	if diff := cmp.Diff([]string{restored.ID}, report.Done); diff != "" || err != nil || len(report.Runs) != 2 {
		t.Errorf("%v; %+v; done (-want +got)\n%s", err, report.Runs, diff)
	}
}

func TestTheLastLineOfWhatAHookSays(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "one": "one", "one\ntwo\n\n \n": "two", "one\r\ntwo\r\n": "two", "a\tb\x1b[0m": "a b [0m", "\xff\xfe\nbad \xffbytes": "bad bytes",
		strings.Repeat("ä", 200): strings.Repeat("ä", 98) + "…",
	} {
		if got := lastLine(text); got != want {
			t.Errorf("of %q it is %q, want %q", text, got, want)
		}
	}
	said := &tail{}
	for range 1000 {
		if n, err := said.Write([]byte("0123456789\n")); n != 11 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(said.kept) > saidMost || said.lastLine() != "0123456789" {
		t.Errorf("%d bytes are kept, the last line is %q", len(said.kept), said.lastLine())
	}
}
