package agent

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// valuesOf are those of the series of a gauge or counter, by the only label that it has.
func valuesOf(t *testing.T, vector prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(vector); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			values[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// gained are the series whose values have grown, and by how much.
func gained(before, after map[string]float64) map[string]float64 {
	by := map[string]float64{}
	for label, value := range after {
		if value != before[label] {
			by[label] = value - before[label]
		}
	}
	return by
}

func TestQueuesAreMeasured(t *testing.T) {
	pending := func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
	waiting, decided := newPod("waiting", pending), newPod("decided", pending)
	b := newBench(t, waiting, decided, newPod("gone", pending, func(p *corev1.Pod) { p.Annotations = nil }), newPod("runs"))
	if err := b.Node.Decide(string(decided.UID), capture.Decision{Action: capture.Cold, Reason: keys.ColdNoCheckpoint}); err != nil {
		t.Fatal(err)
	}
	b.captured(newPod("dumping"), "1.partial", capture.Dumping)
	b.captured(newPod("failed"), "1", capture.Failed)
	b.captured(newPod("unpublished"), "1", capture.Complete)
	for name, m := range map[string]memo{"uploading": {CheckpointUID: "c"}, "uploaded": {CheckpointUID: "c", Uploaded: testNow}} {
		dir := b.captured(newPod(name), "1", capture.Complete)
		if err := capture.NoteJSON(filepath.Join(dir, memoFile), m); err != nil {
			t.Fatal(err)
		}
	}
	b.measureQueues(t.Context())
	want := map[string]float64{queueCapture: 1, queuePublish: 2, queueUpload: 1, queueRestore: 1}
	if diff := cmp.Diff(want, valuesOf(t, queueLength)); diff != "" {
		t.Errorf("lengths (-want +got)\n%s", diff)
	}
	began := float64(testNow.Add(-time.Minute).Unix())
	want = map[string]float64{queueCapture: began, queuePublish: began, queueUpload: began, queueRestore: float64(testNow.Add(-time.Second).Unix())}
	if diff := cmp.Diff(want, valuesOf(t, queueOldest)); diff != "" {
		t.Errorf("oldest (-want +got)\n%s", diff)
	}
	newBench(t).measureQueues(t.Context())
	if got := valuesOf(t, queueOldest); len(got) > 0 {
		t.Errorf("of empty queues the oldest are %v", got)
	}
}

func TestRestoresAndColdStartsAreCounted(t *testing.T) {
	type counts = map[string]float64
	for name, test := range map[string]struct {
		decision capture.Decision
		outcome  outcome
		restores counts
		cold     counts
	}{
		"a pod that goes on": {
			decision: capture.Decision{Action: capture.Restore, Checkpoint: "c"},
			outcome:  outcome{status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint}, restores: counts{keys.RestoredFromCheckpoint: 1},
		},
		"one that CRIU does not restore counts as both": {
			decision: capture.Decision{Action: capture.Restore, Checkpoint: "c"},
			outcome:  outcome{status: corev1.ConditionFalse, reason: keys.ColdSecurityContextMismatch},
			restores: counts{keys.ColdRestoreFailed: 1}, cold: counts{keys.ColdSecurityContextMismatch: 1},
		},
		"one whose state cannot be fetched as well": {
			decision: capture.Decision{Action: capture.Cold, Checkpoint: "c"},
			outcome:  outcome{status: corev1.ConditionFalse, reason: keys.ColdEncryptionKeyMissing},
			restores: counts{keys.ColdRestoreFailed: 1}, cold: counts{keys.ColdEncryptionKeyMissing: 1},
		},
		"the first of its kind is no restore": {
			decision: capture.Decision{Action: capture.Cold},
			outcome:  outcome{status: corev1.ConditionFalse, reason: keys.ColdNoCheckpoint}, cold: counts{keys.ColdNoCheckpoint: 1},
		},
		"one that does not start is no cold start": {
			decision: capture.Decision{Action: capture.Restore, Checkpoint: "c"},
			outcome:  outcome{status: corev1.ConditionFalse, reason: keys.RestoreRefused}, restores: counts{keys.RestoreRefused: 1},
		},
		"one whose container was started anew since has been restored": {
			decision: capture.Decision{Action: capture.Restore, Checkpoint: "c"},
			outcome:  outcome{status: corev1.ConditionFalse, reason: keys.ColdRestarted}, cold: counts{keys.ColdRestarted: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			restored, cold := valuesOf(t, restores), valuesOf(t, coldStarts)
			countRestore(&test.decision, test.outcome, []*capture.Result{{Total: time.Second}})
			if diff := cmp.Diff(test.restores, gained(restored, valuesOf(t, restores)), ignoreEmpty); diff != "" {
				t.Errorf("restores (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(test.cold, gained(cold, valuesOf(t, coldStarts)), ignoreEmpty); diff != "" {
				t.Errorf("cold starts (-want +got)\n%s", diff)
			}
		})
	}
}

var ignoreEmpty = cmp.FilterValues(func(x, y map[string]float64) bool { return len(x) == 0 && len(y) == 0 }, cmp.Ignore())

// What somebody is warned by is there from the beginning: of a counter that appears with its first value Prometheus sees no increase.
func TestCountersBeginWithNothing(t *testing.T) {
	for _, outcome := range capture.Reasons() {
		if _, is := valuesOf(t, captures)[string(outcome)]; !is {
			t.Errorf("captures have no outcome %s", outcome)
		}
	}
	if problems, err := testutil.GatherAndLint(prometheusOnly(t)); err != nil || len(problems) > 0 {
		t.Errorf("the conventions of Prometheus are broken: %v, %v", problems, err)
	}
}

func prometheusOnly(t *testing.T) prometheus.Gatherer {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range []prometheus.Collector{captures, frozenSeconds, captureSeconds, captureBytes, hooks, publishFailures, uploadedBytes, uploadedLogicalBytes,
		uploadSeconds, uploadFailures, keptBytes, notKept, restores, coldStarts, restoreSeconds, decisionSeconds, fetchedBytes, fetchSeconds, fetchFailures,
		queueLength, queueOldest, diskBytes, diskBudget, diskSize, diskFree, evictions, probeFindings, probeSeconds, shutdownSeconds} {
		if err := registry.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return registry
}

// The runtime says in its log how a Checkpoint is called that it does not know: it has to be the name that it gets.
func TestTheRuntimesLogNamesTheCheckpoint(t *testing.T) {
	for _, name := range []string{"web", "web-0", "a-name-that-is-as-long-as-a-name-of-a-pod-may-be.and-with-dots-in-it--------and-longer"} {
		pod := capture.Pod{Namespace: "default", Name: name, UID: "0123456789abcdef"}
		if got, want := pod.LastCheckpoint(), v1alpha1.TerminationName(name, uid(pod.UID)); got != want {
			t.Errorf("the log says %s; the Checkpoint is %s", got, want)
		}
		for _, trigger := range []capture.Trigger{{Signal: "SIGTERM"}, {Asks: &capture.Asks{Checkpoint: "mine"}},
			{Signal: "SIGTERM", Asks: &capture.Asks{Checkpoint: "mine"}}} {
			record := &capture.Capture{Pod: pod, Trigger: trigger}
			if got, want := record.CheckpointName(), keyOf(record).Name; got != want {
				t.Errorf("of %+v the log says %s; the Checkpoint is %s", trigger, got, want)
			}
		}
	}
}
