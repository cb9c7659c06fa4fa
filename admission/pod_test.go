package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

func labelled(change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{keys.CheckpointMode: keys.True}},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(30)), Containers: []corev1.Container{{Name: "app"}}},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

// admitIn does to a pod of a Namespace what the webhook does.
func admitIn(pod *corev1.Pod, namespace settings.Namespace, policy *v1alpha1.CheckpointPolicy) error {
	asked, err := settings.Resolve(pod, namespace)
	if err != nil {
		return err
	}
	mark(pod, asked)
	return Admit(pod, asked, policy)
}

func admit(t *testing.T, pod *corev1.Pod) (capture.Settings, bool) {
	t.Helper()
	if err := admitIn(pod, settings.Namespace{}, nil); err != nil {
		t.Fatal(err)
	}
	value, found := pod.Annotations[keys.Effective]
	if !found {
		return capture.Settings{}, false
	}
	settings, err := capture.ParseSettings(value)
	if err != nil {
		t.Fatal(err)
	}
	return settings, true
}

func command(words ...string) *corev1.Lifecycle {
	return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: words}}}
}

func TestSettings(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   capture.Settings
	}{
		"the label is all that is needed": {want: capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 120}},
		"a longer grace period stays": {
			change: func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(600)) },
			want:   capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 600},
		},
		"the size is in bytes": {
			change: func(p *corev1.Pod) { p.Labels[keys.CheckpointVolumeSize] = "2Gi" },
			want:   capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 120, VolumeSizeBytes: 2 << 30},
		},
		"io_uring is allowed by an annotation": {
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{keys.IOUring: keys.IOUringAllow} },
			want:   capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 120, AllowIOUring: true},
		},
		"sidecars are captured, init containers and proxies not": {
			change: func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "once"}, {Name: "side", RestartPolicy: &always}}
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy"})
			},
			want: capture.Settings{Containers: []string{"side", "app"}, Sidecars: []string{"side"}, GracePeriodSeconds: 120},
		},
		"what a user wrote into the annotation counts for nothing": {
			change: func(p *corev1.Pod) {
				p.Annotations = map[string]string{keys.Effective: `{"schemaVersion":1,"containers":["other"],"gracePeriodSeconds":7}`}
			},
			want: capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 120},
		},
		"a command is taken out of the spec": {
			change: func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = command("nginx", "-s", "quit") },
			want: capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 120, PreStop: []capture.Hook{
				{Container: "app", Exec: []string{"nginx", "-s", "quit"}}}},
		},
		"a request is taken out, with its port by name": {
			change: func(p *corev1.Pod) {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "admin", ContainerPort: 8081}}
				p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
					Path: "/quit", Port: intstr.FromString("admin"), Scheme: corev1.URISchemeHTTP, HTTPHeaders: []corev1.HTTPHeader{{Name: "A", Value: "b"}}}}}
			},
			want: capture.Settings{Containers: []string{"app"}, GracePeriodSeconds: 120, PreStop: []capture.Hook{
				{Container: "app", HTTP: &capture.HTTPHook{Scheme: "http", Port: 8081, Path: "/quit", Headers: map[string]string{"A": "b"}}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := labelled(test.change)
			test.want.SchemaVersion = capture.SchemaVersion
			settings, _ := admit(t, pod)
			if diff := cmp.Diff(test.want, settings); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName != keys.RuntimeClass {
				t.Errorf("the RuntimeClass is %v", pod.Spec.RuntimeClassName)
			}
			if got := *pod.Spec.TerminationGracePeriodSeconds; got != test.want.GracePeriodSeconds {
				t.Errorf("the grace period is %d", got)
			}
			for _, c := range pod.Spec.Containers {
				if c.Lifecycle != nil {
					t.Errorf("the hook is still there: %v", c.Lifecycle)
				}
			}
			again, _ := admit(t, pod)
			if diff := cmp.Diff(settings, again); diff != "" {
				t.Errorf("the pod came by once more (-first +second):\n%s", diff)
			}
		})
	}
}

func TestWhatIsAskedForByOtherKeys(t *testing.T) {
	pod := labelled(func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: keys.EnvFiles, Value: "/opt/x"}}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "log"}, corev1.Container{Name: "istio-proxy"})
		p.Annotations = map[string]string{
			keys.CheckpointContainers: "istio-proxy,app", keys.CheckpointDiagnosis: keys.True,
			keys.CheckpointOptions: "tcp-established, ghost-limit=4M", keys.RestoreOptions: "tcp-close",
		}
	})
	want := capture.Settings{
		SchemaVersion: capture.SchemaVersion, Containers: []string{"app", "istio-proxy"}, GracePeriodSeconds: 120, Diagnosis: true, TCPEstablished: true,
		OfContainers: map[string]capture.ContainerSettings{
			"app":         {CheckpointOptions: []string{"ghost-limit 4194304"}, RestoreOptions: []string{"tcp-close"}, Files: []string{"/opt/x"}},
			"istio-proxy": {CheckpointOptions: []string{"ghost-limit 4194304"}, RestoreOptions: []string{"tcp-close"}},
		},
	}
	got, _ := admit(t, pod)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestHooksThatStay(t *testing.T) {
	sleep := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}}
	outside := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Host: "metadata.internal", Port: intstr.FromInt32(80)}}}
	for name, pod := range map[string]*corev1.Pod{
		"sleep":                 labelled(func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = sleep }),
		"to another host":       labelled(func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = outside }),
		"kept by an annotation": labelled(func(p *corev1.Pod) { p.Annotations, p.Spec.Containers[0].Lifecycle = keep(), command("true") }),
		"of a proxy": labelled(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Lifecycle: command("drain")}, {Name: "app"}}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			want := pod.Spec.Containers[0].Lifecycle.DeepCopy()
			if settings, _ := admit(t, pod); settings.PreStop != nil {
				t.Errorf("taken out: %v", settings.PreStop)
			}
			if diff := cmp.Diff(want, pod.Spec.Containers[0].Lifecycle); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func keep() map[string]string { return map[string]string{keys.KeepPreStop: keys.True} }

func TestPodsThatAreLeftAlone(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"the label says no":              func(p *corev1.Pod) { p.Labels[keys.CheckpointMode] = keys.False },
		"no label":                       func(p *corev1.Pod) { p.Labels = nil },
		"the node's network":             func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"another RuntimeClass":           func(p *corev1.Pod) { p.Spec.RuntimeClassName = new("kata") },
		"nothing but a proxy":            func(p *corev1.Pod) { p.Spec.Containers[0].Name = "linkerd-proxy" },
		"what a user wrote is taken out": func(p *corev1.Pod) { p.Labels, p.Annotations = nil, map[string]string{keys.Effective: "{}"} },
	} {
		t.Run(name, func(t *testing.T) {
			pod := labelled(change)
			want := pod.Spec.DeepCopy()
			if settings, found := admit(t, pod); found {
				t.Errorf("it got the settings %v", settings)
			}
			if diff := cmp.Diff(want, &pod.Spec); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadLabelsAreNamed(t *testing.T) {
	for name, test := range map[string]struct{ label, value, may string }{
		"checkpoint-mode":      {keys.CheckpointMode, "yes", `"true" or "false"`},
		"restore-mode":         {keys.RestoreMode, "", `"true" or "false"`},
		"a size that is none":  {keys.CheckpointVolumeSize, "big", "quantity"},
		"a size of nothing":    {keys.CheckpointVolumeSize, "0", "above 0"},
		"a size below nothing": {keys.CheckpointVolumeSize, "-1Gi", "above 0"},
	} {
		t.Run(name, func(t *testing.T) {
			err := admitIn(labelled(func(p *corev1.Pod) { p.Labels[test.label] = test.value }), settings.Namespace{}, nil)
			if err == nil {
				t.Fatal("it was admitted")
			}
			for _, part := range []string{test.label, `"` + test.value + `"`, test.may} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %s", err, part)
				}
			}
		})
	}
}

func TestABadAnnotationIsNamed(t *testing.T) {
	err := admitIn(labelled(func(p *corev1.Pod) { p.Annotations = map[string]string{keys.IOUring: "yes"} }), settings.Namespace{}, nil)
	if want := `annotation memverge.ai/checkpoint-io-uring is "yes"; it may be "allow"`; err == nil || err.Error() != want {
		t.Errorf("it says %v, want %s", err, want)
	}
}

func TestAPolicyWithoutContainersToCapture(t *testing.T) {
	pod := labelled(nil)
	policy := &v1alpha1.CheckpointPolicy{Spec: v1alpha1.CheckpointPolicySpec{Containers: &v1alpha1.ContainerSelection{Include: []string{"other"}}}}
	if err := admitIn(pod, settings.Namespace{}, policy); err != nil || pod.Spec.RuntimeClassName != nil || pod.Annotations[keys.Effective] != "" {
		t.Errorf("%v; it is changed into %+v", err, pod)
	}
}

func TestAPodKeepsTheVariantOfOurRuntimeClassThatItNames(t *testing.T) {
	pod := labelled(func(p *corev1.Pod) { p.Spec.RuntimeClassName = new(keys.RuntimeClass + "-nvidia") })
	admit(t, pod)
	if class := *pod.Spec.RuntimeClassName; class != keys.RuntimeClass+"-nvidia" || !podspec.IsProtected(pod) {
		t.Errorf("the RuntimeClass is %s, protected: %t", class, podspec.IsProtected(pod))
	}
}
