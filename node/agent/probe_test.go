package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/node/probe"
)

var (
	ring    = probe.Finding{Reason: keys.UnprotectedIOUring, PID: 7, Command: "python3", What: "uses io_uring, descriptor 5", Advice: "do without"}
	passing = probe.Finding{Reason: keys.UnprotectedUnread, PID: 1, Command: "app", What: "does not read", Advice: "have it read", Passing: true}
)

// watching is a prober with the containers of a pod.
func watching(names ...string) (*prober, []*watched) {
	p := &prober{containers: map[string]*watched{}, verdicts: map[string]verdict{}, changed: make(chan event.GenericEvent, 100)}
	var all []*watched
	for _, name := range names {
		w := &watched{record: record{ID: name + "-id", Name: name, Pod: capture.Pod{Namespace: "ns", Name: "p", UID: "pod-uid"}, Sandbox: "sandbox"}, since: testNow}
		p.containers[w.ID] = w
		all = append(all, w)
	}
	return p, all
}

func found(findings ...probe.Finding) probe.Report { return probe.Report{Findings: findings} }

func TestWhatPassesCountsWhenItIsStillThere(t *testing.T) {
	p, all := watching("app")
	w := all[0]
	p.take(w, found(passing), testNow, 0)
	if v := p.verdicts["pod-uid"]; v.status != corev1.ConditionTrue || w.next.Sub(testNow) != probeAgain {
		t.Errorf("at first it says %+v, and looks again after %s", v, w.next.Sub(testNow))
	}
	p.take(w, found(passing), testNow, 0)
	if v := p.verdicts["pod-uid"]; v.status != corev1.ConditionFalse || v.reason != keys.UnprotectedUnread {
		t.Errorf("then it says %+v", v)
	}
	p.take(w, found(), testNow, 0)
	if v := p.verdicts["pod-uid"]; v.status != corev1.ConditionTrue || v.reason != keys.CheckpointableProtected {
		t.Errorf("when it is gone it says %+v", v)
	}
	if len(p.changed) != 3 {
		t.Errorf("the pod was reconciled %d times", len(p.changed))
	}
}

func TestTheScheduleOfLooks(t *testing.T) {
	p, all := watching("app")
	var after []time.Duration
	now := testNow.Add(probeSchedule[0])
	for range 5 {
		p.take(all[0], found(), now, 0)
		now = all[0].next
		after = append(after, now.Sub(testNow))
	}
	want := []time.Duration{5 * time.Second, 15 * time.Second, 75 * time.Second, 135 * time.Second, 195 * time.Second}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAVerdictChangesWithWhatIsFoundAlone(t *testing.T) {
	p, all := watching("app", "side")
	p.take(all[0], found(ring), testNow, 0)
	if len(p.verdicts) != 0 {
		t.Error("there is a verdict before all containers were looked at")
	}
	p.take(all[1], found(), testNow, 0)
	want := verdict{
		status: corev1.ConditionFalse, reason: keys.UnprotectedIOUring,
		message: `CRIU cannot dump it. container "app": process 7 (python3) uses io_uring, descriptor 5; do without`,
	}
	got := p.verdicts["pod-uid"]
	got.key = ""
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	other := ring
	other.PID = 9
	p.take(all[0], found(other), testNow, 0)
	if got := p.verdicts["pod-uid"]; got.message != want.message {
		t.Errorf("another process of the same program makes it %q", got.message)
	}
	delete(p.containers, all[0].ID)
	p.judge("pod-uid", 0)
	if got := p.verdicts["pod-uid"]; got.status != corev1.ConditionTrue {
		t.Errorf("without the container it is %+v", got)
	}
}

func TestManyFindingsAreCounted(t *testing.T) {
	_, all := watching("app")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		f := ring
		f.Command = name
		all[0].counts = append(all[0].counts, f)
	}
	if v := verdictOn(all, 0); !strings.HasSuffix(v.message, "(c) uses io_uring, descriptor 5; do without. There are 2 more") {
		t.Error(v.message)
	}
}

func TestSizesAreAWarning(t *testing.T) {
	for name, test := range map[string]struct {
		memory, files, bound, free int64
		want                       string
	}{
		"it fits":            {1 << 20, 1 << 20, 3 << 20, 4 << 20, keys.CheckpointableProtected},
		"no bound":           {1 << 20, 1 << 20, 0, 0, keys.CheckpointableProtected},
		"just below 80 %":    {79 << 20, 0, 100 << 20, 400 << 20, keys.CheckpointableProtected},
		"80 % of the bound":  {40 << 20, 40 << 20, 100 << 20, 400 << 20, keys.CheckpointableNearVolumeSize},
		"all of the bound":   {1 << 20, 1 << 20, 2 << 20, 4 << 20, keys.CheckpointableNearVolumeSize},
		"above the bound":    {1 << 20, 2 << 20, 2 << 20, 4 << 20, keys.CheckpointableVolumeSize},
		"near it, no disk":   {40 << 20, 40 << 20, 100 << 20, 60 << 20, keys.CheckpointableNoSpace},
		"more than the disk": {1 << 20, 2 << 20, 0, 2 << 20, keys.CheckpointableNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			_, all := watching("app")
			all[0].memory, all[0].files, all[0].Settings.VolumeSizeBytes = test.memory, test.files, test.bound
			if v := verdictOn(all, test.free); v.status != corev1.ConditionTrue || v.reason != test.want {
				t.Errorf("it says %+v", v)
			}
		})
	}
}

func TestWhatComesBackChangedIsAWarning(t *testing.T) {
	changed := probe.Finding{Reason: keys.CheckpointableChanged, PID: 1, Command: "app", What: "holds a semaphore", Advice: "use a pipe"}
	for name, test := range map[string]struct {
		findings []probe.Finding
		memory   int64
		status   corev1.ConditionStatus
		reason   string
		says     string
	}{
		"alone": {
			[]probe.Finding{changed}, 0, corev1.ConditionTrue, keys.CheckpointableChanged,
			`but not all of it comes back as it was. container "app": process 1 (app) holds a semaphore; use a pipe`,
		},
		"with what cannot go": {
			[]probe.Finding{changed, ring}, 0, corev1.ConditionFalse, keys.UnprotectedIOUring,
			`CRIU cannot dump it. container "app": process 7 (python3) uses io_uring`,
		},
		"near the bound":           {[]probe.Finding{changed}, 900 << 10, corev1.ConditionTrue, keys.CheckpointableChanged, "holds a semaphore"},
		"with more than the bound": {[]probe.Finding{changed}, 2 << 20, corev1.ConditionTrue, keys.CheckpointableVolumeSize, "a capture would fail"},
	} {
		t.Run(name, func(t *testing.T) {
			_, all := watching("app")
			all[0].counts, all[0].memory, all[0].Settings.VolumeSizeBytes = test.findings, test.memory, 1<<20
			if v := verdictOn(all, 0); v.status != test.status || v.reason != test.reason || !strings.Contains(v.message, test.says) {
				t.Errorf("it says %+v", v)
			}
		})
	}
}

func TestAnAgentThatHasJustStartedKeepsWhatAnotherFound(t *testing.T) {
	b := newBench(t)
	pod := &corev1.Pod{}
	pod.UID = "pod-uid"
	pod.Status.Conditions = []corev1.PodCondition{{Type: keys.Checkpointable, Status: corev1.ConditionFalse, Reason: keys.UnprotectedIOUring, Message: "m"}}
	if diff := cmp.Diff(pod.Status.Conditions[0], b.checkpointable(pod)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	pod.Status.Conditions[0].Reason = keys.UnprotectedNoReadyNode // the manager's, from before it was bound
	if c := b.checkpointable(pod); c.Status != corev1.ConditionTrue {
		t.Errorf("it says %+v", c)
	}
}

// The records are the runtime's: those of sandboxes and of containers that are not selected are left alone.
func TestContainersAreFoundByTheirRecords(t *testing.T) {
	b := newBench(t)
	for id, w := range map[string]record{
		"app-id": {Name: "app", Sandbox: "sandbox-id"}, "sandbox-id": {Sandbox: "sandbox-id"},
		"proxy-id": {Name: "proxy", Sandbox: "sandbox-id"},
	} {
		w.ID, w.Pod.UID, w.Settings.Containers = id, "pod-uid", []string{"app"}
		data, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(b.Node.Containers(), 0o700); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(b.Node.Containers(), id+".json"), string(data))
	}
	b.prober.update(b.Node)
	if due := b.prober.due(b.now); len(due) != 1 || due[0].Name != "app" {
		t.Errorf("due are %v", due)
	}
	if err := os.Remove(filepath.Join(b.Node.Containers(), "app-id.json")); err != nil {
		t.Fatal(err)
	}
	b.prober.update(b.Node)
	if due := b.prober.due(b.now); len(due) != 0 {
		t.Errorf("due are %v", due)
	}
}

// TestTheFirstProcessOfAContainerIsFound where the runtime wrote its number: on the node, of which nothing else is mounted in the agent's pod.
func TestTheFirstProcessOfAContainerIsFound(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, dir := range []string{"proc/1/root/run/containerd/a", "proc/42"} {
		if err := os.MkdirAll(filepath.Join(b.Node.Root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w := &watched{}
	w.PIDFile = "/run/containerd/a/init.pid"
	if _, err := b.firstProcess(w); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it is written: %v", err)
	}
	b.write(filepath.Join(b.Node.Root, "proc/1/root", w.PIDFile), "41")
	if _, err := b.firstProcess(w); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the process has ended: %v", err)
	}
	b.write(filepath.Join(b.Node.Root, "proc/1/root", w.PIDFile), "42")
	if pid, err := b.firstProcess(w); pid != 42 || err != nil {
		t.Errorf("it is %d, %v", pid, err)
	}
}
