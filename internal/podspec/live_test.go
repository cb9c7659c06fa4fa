package podspec

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestWhatAProbeForgives(t *testing.T) {
	http, exec := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}, corev1.ProbeHandler{Exec: &corev1.ExecAction{}}
	for name, test := range map[string]struct {
		probes []*corev1.Probe // a container each
		want   time.Duration
		none   bool
	}{
		"none": {probes: []*corev1.Probe{nil}, none: true},
		"by HTTP": {
			probes: []*corev1.Probe{{ProbeHandler: http, FailureThreshold: 3, PeriodSeconds: 10, TimeoutSeconds: 1}}, want: 21 * time.Second,
		},
		"by HTTP, at once": {
			probes: []*corev1.Probe{{ProbeHandler: http, FailureThreshold: 1, PeriodSeconds: 10, TimeoutSeconds: 2}}, want: 2 * time.Second,
		},
		"by exec":          {probes: []*corev1.Probe{{ProbeHandler: exec, FailureThreshold: 2, PeriodSeconds: 1}}, none: true},
		"by exec, at once": {probes: []*corev1.Probe{{ProbeHandler: exec, FailureThreshold: 1, PeriodSeconds: 10}}},
		"by a connection": {
			probes: []*corev1.Probe{{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}, FailureThreshold: 1}}, none: true,
		},
		"of two containers the least": {
			probes: []*corev1.Probe{{ProbeHandler: http, FailureThreshold: 9, PeriodSeconds: 9}, {ProbeHandler: http}}, want: time.Second,
		},
	} {
		pod := &corev1.Pod{}
		for i, probe := range test.probes {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: string(rune('a' + i)), LivenessProbe: probe})
		}
		if got, probe := Forgives(pod); got != test.want || (probe == "") != test.none {
			t.Errorf("%s: %s, %q; want %s", name, got, probe, test.want)
		}
	}
}

func TestWhichPodsCannotBeCapturedWhileTheyGoOn(t *testing.T) {
	class, now := keys.RuntimeClass, metav1.Now()
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"one that runs":    {change: func(*corev1.Pod) {}},
		"one that goes":    {func(p *corev1.Pod) { p.DeletionTimestamp = &now }, v1alpha1.ReasonSourceTerminated},
		"one that ended":   {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, v1alpha1.ReasonSourceExited},
		"one without mark": {func(p *corev1.Pod) { p.Annotations = nil }, v1alpha1.ReasonSourceNotProtected},
		"one with a GPU": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: keys.Checkpointable, Status: corev1.ConditionFalse, Reason: keys.UnprotectedDevice}}
		}, v1alpha1.ReasonSourceNotProtected},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "0f2d4c1a-93c1", Annotations: map[string]string{keys.Effective: "{}"}},
			Spec:       corev1.PodSpec{RuntimeClassName: &class},
		}
		test.change(pod)
		if reason, message := NotLive(pod); reason != test.want || (message == "") != (reason == "") {
			t.Errorf("%s: %q, %q; want %q", name, reason, message, test.want)
		}
	}
}
