package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestTheJobIsThatOfTheProductsPage(t *testing.T) {
	var job batchv1.Job
	if err := yaml.UnmarshalStrict([]byte(jobYAML), &job); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{keys.CheckpointMode: keys.True, keys.CheckpointVolumeSize: "2Gi"}
	if diff := cmp.Diff(want, job.Spec.Template.Labels); diff != "" || job.Name != jobName || job.Namespace != "" {
		t.Errorf("it is %s/%s with the labels (-want +got)\n%s", job.Namespace, job.Name, diff)
	}
	spec := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "my-container", Image: image}}}
	if diff := cmp.Diff(spec, job.Spec.Template.Spec); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseFindsNumbers(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.UTC)
	for text, want := range map[string]line{
		"count=12 pid=1 checksum=00ff":      {at: at, count: 12, pid: "1", checksum: "00ff", isNumber: true},
		"filled 256 MiB; all of it is fine": {at: at},
	} {
		got, err := parse("2026-11-24T10:00:00.123456789Z " + text)
		want.text = text
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(line{})); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", text, err, diff)
		}
	}
	if _, err := parse("count=12"); err == nil {
		t.Error("a line without a time was taken")
	}
}

func TestContinuedTellsAProcessFromANewOne(t *testing.T) {
	last := line{count: 10, pid: "1", checksum: "00ff"}
	for name, test := range map[string]struct {
		first line
		node  string
		want  string
	}{
		"it goes on":                       {first: line{count: 11, pid: "1", checksum: "00ff"}, node: "b"},
		"it began anew":                    {first: line{count: 1, pid: "1", checksum: "00ff"}, node: "b", want: "did not continue"},
		"a number comes twice":             {first: line{count: 10, pid: "1", checksum: "00ff"}, node: "b", want: "did not continue"},
		"numbers are missing":              {first: line{count: 13, pid: "1", checksum: "00ff"}, node: "b", want: "missing"},
		"another process goes on counting": {first: line{count: 11, pid: "7", checksum: "00ff"}, node: "b", want: "PID 7"},
		"the data has changed":             {first: line{count: 11, pid: "1", checksum: "aa"}, node: "b", want: "checksum aa"},
		"it is where it was":               {first: line{count: 11, pid: "1", checksum: "00ff"}, node: "a", want: "is on a"},
	} {
		s := &story{teller: newTeller(), old: podOn("a"), new: podOn(test.node)}
		err := s.continued(last, test.first)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: it says %v, want %q", name, err, test.want)
		}
	}
}

func TestAPodEndsOnceAndBeforeItIsGone(t *testing.T) {
	line := &timeline{pods: map[types.UID]*corev1.Pod{}, seen: map[mark]time.Time{}}
	for _, phase := range []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodFailed, corev1.PodFailed} {
		line.pod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "a"}, Status: corev1.PodStatus{Phase: phase}})
		if _, now := line.when(ended, "a"); now != (phase == corev1.PodFailed) {
			t.Errorf("while it is %s it has ended: %t", phase, now)
		}
	}
	first, _ := line.when(ended, "a")
	line.podGone(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "a"}})
	line.podGone(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "b"}}) // its end was not seen
	if again, _ := line.when(ended, "a"); !again.Equal(first) {
		t.Errorf("it ended at %s and at %s", first, again)
	}
	if _, ok := line.when(ended, "b"); !ok {
		t.Error("a pod that is gone has not ended")
	}
}

func podOn(node string) *corev1.Pod { return &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}} }
