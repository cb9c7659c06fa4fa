package settings

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// values are the labels or annotations that only a test of one key needs.
type values = map[string]string

// podOf makes a pod with the containers app and log.
func podOf(labels, annotations values, environment ...corev1.EnvVar) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: labels, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Env: environment}, {Name: "log"}}},
	}
}

func resolved(t *testing.T, pod *corev1.Pod, namespace Namespace) Settings {
	t.Helper()
	s, err := Resolve(pod, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Each key, at every place: what is written at the places that stand before it, in this order, counts for more.
func TestWhatStandsNearerCounts(t *testing.T) {
	for key, test := range map[string]struct {
		one, other string // values, as a label can hold them
		of         func(Settings) string
		want       [2]string
	}{
		keys.CheckpointMode: {"true", "false", func(s Settings) string { return fmt.Sprint(s.Checkpoint) }, [2]string{"true", "false"}},
		keys.RestoreMode:    {"false", "true", func(s Settings) string { return fmt.Sprint(s.StartsCold) }, [2]string{"true", "false"}},
		keys.CheckpointContainers: {"app", "log", func(s Settings) string { return fmt.Sprint(s.Containers) },
			[2]string{"[app]", "[log]"}},
		keys.CheckpointVolumeSize: {"1Ki", "2Ki", func(s Settings) string { return fmt.Sprint(s.VolumeSizeBytes) }, [2]string{"1024", "2048"}},
		keys.CheckpointDiagnosis:  {"true", "false", func(s Settings) string { return fmt.Sprint(s.Of["app"].Diagnosis) }, [2]string{"true", "false"}},
		keys.CheckpointOptions: {"link-remap", "file-locks", func(s Settings) string { return fmt.Sprint(s.Of["log"].CheckpointOptions) },
			[2]string{"[link-remap]", "[file-locks]"}},
		keys.RestoreOptions: {"tcp-close", "file-locks", func(s Settings) string { return fmt.Sprint(s.Of["log"].RestoreOptions) },
			[2]string{"[tcp-close]", "[file-locks]"}},
		keys.KeepPreStop: {"true", "false", func(s Settings) string { return fmt.Sprint(s.KeepPreStop) }, [2]string{"true", "false"}},
	} {
		t.Run(key, func(t *testing.T) {
			places := []string{"annotation " + key, "label " + key, "annotation " + key + " of Namespace ns", "label " + key + " of Namespace ns"}
			for first := range places {
				var at [4]values // the one value at the first place, the other at all behind it
				for i := first; i < len(at); i++ {
					at[i] = values{key: test.other}
				}
				at[first] = values{key: test.one}
				s := resolved(t, podOf(at[1], at[0]), Namespace{Name: "ns", Annotations: at[2], Labels: at[3]})
				if got := test.of(s); got != test.want[0] || s.From[key] != places[first] || len(s.Warnings) > 0 {
					t.Errorf("with %q at the %s it is %s, from the %s; %q", test.one, places[first], got, s.From[key], s.Warnings)
				}
				if first+1 == len(at) {
					continue
				}
				at[first] = nil
				s = resolved(t, podOf(at[1], at[0]), Namespace{Name: "ns", Annotations: at[2], Labels: at[3]})
				if got := test.of(s); got != test.want[1] || s.From[key] != places[first+1] {
					t.Errorf("without it is %s, from the %s", got, s.From[key])
				}
			}
		})
	}
}

func TestAValueThatMeansNothing(t *testing.T) {
	const options = "it may name ext-unix-sk, file-locks, ghost-limit=SIZE, link-remap, skip-in-flight, tcp-close and tcp-established"
	for key, test := range map[string]struct{ bad, says string }{
		keys.CheckpointMode:       {"yes", `is "yes"; it may be "true" or "false"`},
		keys.RestoreMode:          {"", `is ""; it may be "true" or "false"`},
		keys.CheckpointDiagnosis:  {"on", `is "on"; it may be "true" or "false"`},
		keys.KeepPreStop:          {"1", `is "1"; it may be "true" or "false"`},
		keys.IOUring:              {"true", `is "true"; it may be "allow"`},
		keys.CheckpointVolumeSize: {"x", `is "x"; it may be a quantity of bytes above 0, as 2Gi`},
		keys.CheckpointContainers: {"", `is ""; it may be names of containers, separated by commas, or in a label by dots`},
		keys.CheckpointOptions:    {"evasive-devices", `names "evasive-devices"; ` + options},
		keys.RestoreOptions: {"ext-unix-sk",
			`names "ext-unix-sk"; it may name file-locks, link-remap, skip-in-flight, tcp-close and tcp-established`},
	} {
		t.Run(key, func(t *testing.T) {
			bad := values{key: test.bad}
			for kind, pod := range map[string]*corev1.Pod{"label": podOf(bad, nil), "annotation": podOf(nil, bad)} {
				if _, err := Resolve(pod, Namespace{}); err == nil || err.Error() != kind+" "+key+" "+test.says {
					t.Errorf("as %s of the pod: %v", kind, err)
				}
			}
			for kind, namespace := range map[string]Namespace{
				"label": {Name: "default", Labels: bad}, "annotation": {Name: "default", Annotations: bad},
			} {
				s, err := Resolve(podOf(nil, nil), namespace)
				want := []string{kind + " " + key + " of Namespace default " + test.says + "; it does not count"}
				if diff := cmp.Diff(want, s.Warnings); err != nil || diff != "" {
					t.Errorf("of the Namespace: %v; warnings (-want +got)\n%s", err, diff)
				}
			}
		})
	}
	if _, err := Resolve(podOf(values{keys.CheckpointMode: "no"}, values{keys.CheckpointMode: "true"}), Namespace{}); err == nil {
		t.Error("one that another goes before is taken")
	}
	s := resolved(t, podOf(nil, nil), Namespace{Annotations: values{keys.CheckpointVolumeSize: "x"}, Labels: values{keys.CheckpointVolumeSize: "1Ki"}})
	if s.VolumeSizeBytes != 1024 {
		t.Errorf("behind a bad annotation of the Namespace its label does not count: %+v", s)
	}
}

func TestListsInLabelsAndAnnotations(t *testing.T) {
	for name, test := range map[string]struct {
		pod       *corev1.Pod
		namespace Namespace
		want      []string
	}{
		"an annotation":           {pod: podOf(nil, values{keys.CheckpointContainers: " app, log,"}), want: []string{"app", "log"}},
		"a label with a dot":      {pod: podOf(values{keys.CheckpointContainers: "app.log"}, nil), want: []string{"app", "log"}},
		"a label with underscore": {pod: podOf(values{keys.CheckpointContainers: "app_log"}, nil), want: []string{"app", "log"}},
		"one that is still to come": {
			pod: podOf(nil, values{keys.CheckpointContainers: "app,vault"}), want: []string{"app", "vault"}},
		"a Namespace's, with names of other pods": {
			pod: podOf(nil, nil), namespace: Namespace{Annotations: values{keys.CheckpointContainers: "main,log"}}, want: []string{"log"}},
		"a Namespace's, with nothing but those": {
			pod: podOf(nil, nil), namespace: Namespace{Annotations: values{keys.CheckpointContainers: "main"}}},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &v1alpha1.CheckpointPolicy{Spec: v1alpha1.CheckpointPolicySpec{Containers: &v1alpha1.ContainerSelection{Exclude: []string{"x"}}}}
			want := policy.Spec.Containers
			if test.want != nil {
				want = &v1alpha1.ContainerSelection{Include: test.want}
			}
			if diff := cmp.Diff(want, resolved(t, test.pod, test.namespace).Selection(policy)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	s := resolved(t, podOf(values{keys.CheckpointOptions: "link-remap.tcp-established"}, nil), Namespace{})
	if diff := cmp.Diff([]string{"link-remap"}, s.Of["app"].CheckpointOptions); diff != "" || !s.Of["app"].TCPEstablished {
		t.Errorf("options of a label: %+v\n%s", s.Of["app"], diff)
	}
}

func TestTheEnvironmentOfAContainerCountsForItAlone(t *testing.T) {
	pod := podOf(nil, values{keys.CheckpointOptions: "link-remap", keys.RestoreOptions: "file-locks", keys.CheckpointDiagnosis: "true"},
		corev1.EnvVar{Name: keys.EnvCheckpointOptions, Value: "evasive-devices"}, // the later one counts
		corev1.EnvVar{Name: keys.EnvCheckpointOptions, Value: "ghost-limit=4M,tcp-established"},
		corev1.EnvVar{Name: keys.EnvRestoreOptions, Value: ""},
		corev1.EnvVar{Name: keys.EnvDiagnosis, Value: "false"},
		corev1.EnvVar{Name: keys.EnvFiles, Value: "/var/cache/x, /opt/y/,/opt/y"})
	s := resolved(t, pod, Namespace{})
	want := map[string]Container{
		"app": {ContainerSettings: capture.ContainerSettings{CheckpointOptions: []string{"ghost-limit 4194304"}, Files: []string{"/var/cache/x", "/opt/y"}},
			TCPEstablished: true},
		"log": {ContainerSettings: capture.ContainerSettings{CheckpointOptions: []string{"link-remap"}, RestoreOptions: []string{"file-locks"}}, Diagnosis: true},
	}
	if diff := cmp.Diff(want, s.Of); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, test := range map[string]struct{ captured, want capture.Settings }{
		"both": {capture.Settings{Containers: []string{"app", "log"}}, capture.Settings{
			Containers: []string{"app", "log"}, Diagnosis: true, TCPEstablished: true,
			OfContainers: map[string]capture.ContainerSettings{"app": want["app"].ContainerSettings, "log": want["log"].ContainerSettings}}},
		"one": {capture.Settings{Containers: []string{"app"}}, capture.Settings{
			Containers: []string{"app"}, TCPEstablished: true,
			OfContainers: map[string]capture.ContainerSettings{"app": want["app"].ContainerSettings}}},
	} {
		s.AddTo(&test.captured, nil)
		if diff := cmp.Diff(test.want, test.captured); diff != "" {
			t.Errorf("%s is captured (-want +got)\n%s", name, diff)
		}
	}
}

func TestABadVariableIsNamed(t *testing.T) {
	for value, reason := range map[string]string{
		"x/y": "is not absolute", "/a/../b": `goes up by ".."`, "/": "is everything", "//": "is everything", "/proc/1": "is of the kernel's",
		"/sys":       "is of the kernel's",
		"/dev/shm/x": "is of the kernel's", "/data/x": `is in the volume "data"`, "/data": `is in the volume "data"`, "/a\nb": "has a control character",
		"/scratch/x": "", "/database": "", "/data/scratch/x": "", "/devices": "", "/lasts/x": "", "": "",
	} {
		pod := podOf(nil, nil, corev1.EnvVar{Name: keys.EnvFiles, Value: "/ok," + value})
		pod.Spec.Volumes = []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
			{Name: "lasts", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
			{Name: "data", MountPath: "/data/"}, {Name: "lasts", MountPath: "/lasts"},
			{Name: "scratch", MountPath: "/scratch"}, {Name: "scratch", MountPath: "/data/scratch"}}
		_, err := Resolve(pod, Namespace{})
		if reason == "" && err == nil {
			continue
		}
		if want := fmt.Sprintf("env MMC_CHECKPOINT_FILES of container %q names %q, which %s", "app", value, reason); err == nil ||
			!strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "; it may name absolute paths, separated by commas") {
			t.Errorf("%q: %v", value, err)
		}
	}
	_, err := Resolve(podOf(nil, nil, corev1.EnvVar{Name: keys.EnvDiagnosis, Value: "on"}), Namespace{})
	if err == nil || err.Error() != `env MMC_CHECKPOINT_DIAGNOSIS of container "app" is "on"; it may be "true" or "false"` {
		t.Error(err)
	}
}

func TestWhatIsNotKnownIsWarnedAbout(t *testing.T) {
	secret := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k"}}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"valueFrom": {podOf(nil, nil, corev1.EnvVar{Name: keys.EnvFiles, ValueFrom: secret}), `env MMC_CHECKPOINT_FILES of container "app" has valueFrom`},
		"another variable": {podOf(nil, nil, corev1.EnvVar{Name: keys.EnvDiagnosis, Value: "$(DEBUG)"}),
			`env MMC_CHECKPOINT_DIAGNOSIS of container "app" refers to another variable`},
		"a storage class": {podOf(values{keys.CheckpointStorageClass: "fast"}, nil), "label memverge.ai/checkpoint-storage-class has no meaning here"},
		"nothing of ours": {pod: podOf(nil, nil, corev1.EnvVar{Name: "OTHER", ValueFrom: secret})},
	} {
		warnings := resolved(t, test.pod, Namespace{}).Warnings
		if test.want == "" && len(warnings) == 0 {
			continue
		}
		if !slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, test.want) }) || len(warnings) != 1 {
			t.Errorf("%s: %q", name, warnings)
		}
	}
}

func TestNamespacesThatDoNotCount(t *testing.T) {
	for name, want := range map[string]bool{"kube-system": false, "checkpoint-system": false, "default": true} {
		namespace := Of(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: values{keys.CheckpointMode: "true"}}}, "checkpoint-system")
		if namespace.Asks() != want {
			t.Errorf("%s asks: %t", name, !want)
		}
	}
	if Of(nil, "checkpoint-system").Asks() {
		t.Error("one that is not there asks")
	}
}

func TestHowOftenAPodIsCaptured(t *testing.T) {
	env := func(value string) []corev1.EnvVar { return []corev1.EnvVar{{Name: keys.EnvInterval, Value: value}} }
	asks := Namespace{Name: "ns", Annotations: values{keys.CheckpointInterval: "2h"}}
	for name, test := range map[string]struct {
		namespace  Namespace
		annotation string
		env        []string // a container each
		want       string
	}{
		"nobody says":                {},
		"the Namespace says":         {namespace: asks, want: "2h"},
		"the pod says otherwise":     {namespace: asks, annotation: "1h", want: "1h"},
		"the pod says never":         {namespace: asks, annotation: "0", want: "0"},
		"a container says otherwise": {annotation: "1h", env: []string{"10m"}, want: "10m"},
		"two containers say":         {env: []string{"10m", "5m"}, want: "5m"},
	} {
		pod := podOf(nil, nil)
		if test.annotation != "" {
			pod.Annotations = values{keys.CheckpointInterval: test.annotation}
		}
		for i, value := range test.env {
			pod.Spec.Containers[i].Env = env(value)
		}
		if s := resolved(t, pod, test.namespace); s.Interval != test.want {
			t.Errorf("%s: %q; want %q", name, s.Interval, test.want)
		}
	}
	const may = "; it may be a duration of 10s or more, as 15m, or 0 for none"
	_, err := Resolve(podOf(nil, values{keys.CheckpointInterval: "1s"}), Namespace{})
	if err == nil || err.Error() != `annotation memverge.ai/checkpoint-interval is "1s"`+may {
		t.Errorf("it says %v", err)
	}
	_, err = Resolve(podOf(nil, nil, env("-5m")...), Namespace{})
	if err == nil || err.Error() != `env MMC_CHECKPOINT_INTERVAL of container "app" is "-5m"`+may {
		t.Errorf("it says %v", err)
	}
}
