package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// The keys by which a user asks for what these tests look at.
const (
	askCheckpointOptions = "memverge.ai/checkpoint-advanced-options"
	askRestoreOptions    = "memverge.ai/restore-advanced-options"
	askFiles             = "MMC_CHECKPOINT_FILES"
)

func annotated(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations = map[string]string{key: value} }
}

// The size of a deleted file that is captured is what the pod asks for: one of 1 MiB is too large for half of that, one of 600 MiB, which is too large
// for any pod that asks for nothing, is not for 700 MiB. What the pod says of itself, and what CRIU does, go together.
func TestTheLimitOfDeletedFilesCanBeAskedFor(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	ns := namespace(t, c)
	low := newHostile(t, c, ns, "deleted", annotated(askCheckpointOptions, "ghost-limit=524288"))
	high := newHostile(t, c, ns, "deleted-large", annotated(askCheckpointOptions, "ghost-limit=734003200"))
	low.holds(t)
	high.holds(t)
	has(t, low.says(t, 20*time.Second, keys.UnprotectedLargeDeletedFile), "which has more than 512 KiB")
	high.says(t, 20*time.Second, keys.CheckpointableProtected)
	for _, condition := range low.captureFails(t).Status.Conditions {
		if condition.Type == v1alpha1.CheckpointCaptured {
			has(t, condition.Message, "Can't dump ghost file")
		}
	}
	const size = "for fd in /proc/$p/fd/*; do case $(readlink $fd) in */gone*) stat -L -c '%s %h' $fd;; esac; done"
	if said := high.again(t).onFirst(t, size); strings.TrimSpace(said) != "629145600 0" {
		t.Errorf("the restored program has open a file of %q bytes and names", said)
	}
}

// Connections come back closed when that is asked for, be it at the capture or at the restore; else those inside the pod go on.
func TestConnectionsComeBackClosedWhenThatIsAskedFor(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		open   bool
	}{
		"nothing":        {nil, true},
		"at the capture": {annotated(askCheckpointOptions, "tcp-close"), false},
		"at the restore": {annotated(askRestoreOptions, "tcp-close"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t, c, namespace(t, c), "tcp-self", test.change)
			h.holds(t)
			const established = "grep -c ' 01 ' /proc/$p/net/tcp || true"
			if before := strings.TrimSpace(h.onFirst(t, established)); before == "0" {
				t.Fatal("it has no connection")
			}
			after := strings.TrimSpace(h.again(t).onFirst(t, established))
			if open := after != "0"; open != test.open {
				t.Errorf("the restored program has %s established connections", after)
			}
		})
	}
}

// Files of a hostPath are there on the next node as they were captured, and what lies beside them there stays.
func TestFilesInAVolumeOfTheNodeComeAlong(t *testing.T) {
	c := labelled(t)
	path := "/var/lib/" + namespace(t, c)
	kind := corev1.HostPathDirectoryOrCreate
	lift := cordon(t, c, "worker-2")
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		spec := &template.Spec
		spec.Volumes = append(spec.Volumes, corev1.Volume{
			Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}},
		})
		app := &spec.Containers[0]
		app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
		app.Env = append(app.Env, corev1.EnvVar{Name: askFiles, Value: "/data/state,/data/folder,/data/nowhere"})
	})
	lift()
	c.OnNode(t, "worker-1", "cd "+path+" && mkdir folder && echo captured > folder/one && chown 7:8 folder/one && echo beside > beside")
	c.OnNode(t, "worker-2", "mkdir -p "+path+"/folder && cd "+path+" && echo other > folder/other && echo of worker-2 > beside && echo old > state")
	put(t, c, pod, "/data/state", "captured")
	before := w.countOf(t, pod)
	defer cordon(t, c, "worker-1")()
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	w.create(t)
	next := w.running(t, pod)
	if next.Spec.NodeName != "worker-2" {
		t.Fatalf("the new pod is on %s", next.Spec.NodeName)
	}
	w.goesOn(t, next, before, nil)
	got := c.OnNode(t, "worker-2", fmt.Sprintf("cd %s && cat state && echo && cat folder/one beside && stat -c %%u:%%g folder/one && ls -A . folder", path))
	want := "captured\ncaptured\nof worker-2\n7:8\n.:\nbeside\nfolder\nstate\n\nfolder:\none\n"
	if got != want {
		t.Errorf("on the new node there is\n%s\nwant\n%s", got, want)
	}
}
