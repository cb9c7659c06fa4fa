package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// check is the one of that name.
func (b *bench) check(name string) inspect.Check {
	b.t.Helper()
	all := b.Checks(b.t.Context())
	i := slices.IndexFunc(all, func(c inspect.Check) bool { return c.Name == name })
	if i < 0 {
		b.t.Fatalf("there is no check %q", name)
	}
	if c := all[i]; c.Says == "" || (c.Level == inspect.Fail) && c.Mend == "" || c.Level == inspect.OK && c.Mend != "" {
		b.t.Errorf("it is not said what is to be done: %+v", c)
	}
	return all[i]
}

// expect compares the level of a check, and a part of what it says and of what to do.
func (b *bench) expect(name string, level inspect.Level, says, mend string) {
	b.t.Helper()
	if c := b.check(name); c.Level != level || !strings.Contains(c.Says, says) || !strings.Contains(c.Mend, mend) {
		b.t.Errorf("%s is %s: %q, %q\nwant %s: %q, %q", name, c.Level, c.Says, c.Mend, level, says, mend)
	}
}

func TestChecksOfANode(t *testing.T) {
	b := newBench(t)
	b.DiskBudget = DiskBudget{bytes: 1 << 40}
	pod := newPod("a")
	dir := b.captured(pod, "1", capture.Complete)
	b.put(map[string]string{"proc/cpuinfo": "flags : avx\n", "proc/7/comm": "containerd\n"})

	b.expect("agent", inspect.Fail, "no agent holds", "kubectl logs -n checkpoint-agents")
	b.expect("machine", inspect.OK, "kernel", "")
	b.expect("graceful shutdown", inspect.Warn, "read the locks of logind", "docs/operations.md#when-a-node-goes-down")
	b.expect("runtimeRequestTimeout", inspect.Warn, "no process of the node is called kubelet", "2m0s or more")
	b.expect("disk", inspect.OK, "of the 1Ti that they may", "")
	b.expect("waiting states", inspect.OK, "1 on this node alone, the oldest for 1m0s", "")
	b.expect("pause", inspect.OK, "captured and restored", "")

	lock, err := os.Create(b.Node.AgentLock())
	if os.IsNotExist(err) {
		err = os.MkdirAll(filepath.Dir(b.Node.AgentLock()), 0o700)
		lock, _ = os.Create(b.Node.AgentLock())
	}
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	b.expect("agent", inspect.OK, "it answers", "")
	b.put(map[string]string{"proc/42/comm": "kubelet\n", "proc/42/cmdline": "kubelet\x00--config=/c\x00", "proc/42/root/c": "runtimeRequestTimeout: 30s"})
	b.expect("runtimeRequestTimeout", inspect.Fail, "waits 30s", "set runtimeRequestTimeout")
	b.put(map[string]string{"proc/42/root/c": "runtimeRequestTimeout: 15m"})
	b.expect("runtimeRequestTimeout", inspect.OK, "waits 15m0s", "")
	b.put(map[string]string{"proc/42/root/c": "kind: KubeletConfiguration"})
	b.expect("runtimeRequestTimeout", inspect.OK, "default, 2m0s", "")
	b.DiskBudget = DiskBudget{bytes: 1}
	b.expect("disk", inspect.Warn, "does not go", "docs/operations.md#the-disk-of-a-node")
	b.now = b.now.Add(time.Hour)
	b.expect("waiting states", inspect.Warn, "the oldest for 1h1m0s", "keep this node")
	b.write(filepath.Join(dir, capture.UploadedFile), "")
	b.expect("waiting states", inspect.OK, "none", "")
	if err := b.Node.Pause("for a test"); err != nil {
		t.Fatal(err)
	}
	b.expect("pause", inspect.Warn, "for a test", "docs/operations.md#pausing-for-an-incident")
}

func TestLogsOfANode(t *testing.T) {
	b := newBench(t)
	pod := newPod("a")
	ofPod := capture.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(dir, name), text)
	}
	ended := b.captured(pod, "1", capture.Complete)
	write(ended, "log/app/dump.log", "the end of the pod")
	asked := b.captured(pod, "2", capture.Complete)
	record, err := capture.Read(asked)
	if err != nil {
		t.Fatal(err)
	}
	record.Trigger = capture.Trigger{Asks: &capture.Asks{Checkpoint: "by-hand", UID: "asked"}}
	if err := record.Write(asked); err != nil {
		t.Fatal(err)
	}
	write(asked, "log/app/dump.log", "by hand")
	failed := b.diagnosisOf(about{Pod: ofPod}, "3")
	if err := os.MkdirAll(filepath.Dir(failed), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.captured(pod, "3", capture.Complete), failed); err != nil {
		t.Fatal(err)
	}
	write(failed, "agent.json", `{"checkpointUID":"failed"}`)
	write(failed, "log/app/dump.log", "kept")
	write(b.Node.Restores(string(pod.UID)), "log-app/restore.log", "restored")
	write(filepath.Join(b.Node.Root, "run/checkpoint/log"), string(pod.UID)+".log", "the runtime")
	for name, test := range map[string]struct {
		of   LogsOf
		want []string
	}{
		"of the end":              {LogsOf{Pod: ofPod, CheckpointUID: "ended"}, []string{"the end of the pod", "the runtime"}},
		"of one by hand":          {LogsOf{Pod: ofPod, CheckpointUID: "asked"}, []string{"the end of the pod", "by hand", "the runtime"}},
		"of one that is kept":     {LogsOf{Pod: ofPod, CheckpointUID: "failed"}, []string{"the end of the pod", "kept", "the runtime"}},
		"of the restore":          {LogsOf{Pod: ofPod, Restore: true}, []string{"restored", "the runtime"}},
		"of a pod that was never": {LogsOf{Pod: capture.Pod{Namespace: "n", Name: "p", UID: "u"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if test.of.CheckpointUID == "asked" || test.of.CheckpointUID == "failed" { // the agent has noted whose the first one is
				write(ended, "agent.json", `{"checkpointUID":"ended"}`)
				test.want = test.want[1:]
			}
			l, err := b.Logs(test.of)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, log := range l.Found {
				got = append(got, log.Text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("logs (-want +got):\n%s\nit looked in vain at %q", diff, l.Looked)
			}
			if test.want == nil && len(l.Looked) != 2 {
				t.Errorf("it looked in vain at %q", l.Looked)
			}
		})
	}
	if _, err := b.Logs(LogsOf{Pod: capture.Pod{Namespace: "..", Name: "a/b", UID: "*"}}); err == nil {
		t.Error("it takes a path for a name")
	}
}
