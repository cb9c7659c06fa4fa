package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// storeNode is the node that has the volumes.
const storeNode = "worker-1"

// storingOn has a workload keep its states in a claim whose volume is a folder of storeNode.
func storingOn(t *testing.T, w *workload, dir string) {
	t.Helper()
	w.c.OnNode(t, storeNode, "rm -rf "+dir+" && mkdir -p "+dir)
	claim := claimed(t, w.c, w.ns, storeNode, dir)
	spec := &w.template.Spec
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}})
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	if w.template.Annotations == nil {
		w.template.Annotations = map[string]string{}
	}
	w.template.Annotations[keys.CheckpointStorageVolume] = "data"
}

// statesOn are the names of the states in the folder of a volume.
func statesOn(t *testing.T, c *lab.Cluster, dir string) []string {
	t.Helper()
	return strings.Fields(c.OnNode(t, storeNode, "ls "+dir+"/"+capture.KeptFolder))
}

// inVolume waits for the Checkpoint of a pod that is gone, which is in its volume and nowhere else, and takes the copy away that its node has.
func (w *workload) inVolume(t *testing.T, pod *corev1.Pod, dir string) *v1alpha1.Checkpoint {
	t.Helper()
	made := w.checkpoint(t, pod, "is complete", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	s := made.Status
	if s.Volume == nil || s.Volume.Kind != v1alpha1.VolumePersistentVolumeClaim || s.Volume.Source != "data" || s.LocationName != "" {
		t.Fatalf("its status is %+v", s)
	}
	if got := statesOn(t, w.c, dir); len(got) == 0 || !strings.Contains(strings.Join(got, " "), s.Volume.File) {
		t.Errorf("the volume has %v, and not %s", got, s.Volume.File)
	}
	mode := w.c.OnNode(t, pod.Spec.NodeName, "stat -c '%a %u' "+dir+"/"+capture.KeptFolder+" "+dir+"/"+capture.KeptFolder+"/"+s.Volume.File)
	if strings.Join(strings.Fields(mode), " ") != "700 0 600 0" {
		t.Errorf("folder and file are %s", mode)
	}
	w.c.OnNode(t, pod.Spec.NodeName, "rm -rf /var/lib/checkpoint/captures/"+string(pod.UID))
	return made
}

// endForGood deletes a pod that nobody makes again before the test does.
func (w *workload) endForGood(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := w.c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
}

// A pod goes on from what its own volume keeps, time and again, and the bucket has nothing of it.
func TestStatesAreKeptInAVolume(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	const dir = "/var/lib/states-kept"
	w := prepareWorkload(t, c, plainPod, nil)
	storingOn(t, w, dir)
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 10)
	put(t, c, pod, "/scratch/file", "of the first")
	for range 3 {
		w.endForGood(t, pod)
		w.inVolume(t, pod, dir)
		w.create(t)
		next := w.running(t, pod)
		before = w.goesOn(t, next, before, map[string]string{"/scratch/file": "of the first"})
		if log := engineLog(t, w, next); !strings.Contains(log, `brings work.`) {
			t.Errorf("it did not come from the volume:\n%s", log)
		}
		w.tells(t, next, keys.RestoredFromCheckpoint)
		pod = next
	}
	if got := statesOn(t, c, dir); len(got) != 2 {
		t.Errorf("the volume has %v", got)
	}
	// The copy on the node serves as well.
	w.endForGood(t, pod)
	w.create(t)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	if log := c.OnNode(t, storeNode, "cat /run/checkpoint/log/"+string(next.UID)+".log || true"); strings.Contains(log, "brings work.") {
		t.Errorf("it came from the volume:\n%s", log)
	}
	// The file outlives its Checkpoint, whose deletion does not wait for anything.
	name := v1alpha1.TerminationName(pod.Name, pod.UID)
	checkpoints := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns)
	states := len(statesOn(t, c, dir))
	if err := checkpoints.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "the Checkpoint is gone", func() error {
		if _, err := checkpoints.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
	if got := statesOn(t, c, dir); len(got) != states {
		t.Errorf("the volume had %d states, and has %v", states, got)
	}
}

// What a program of the pod has changed in its volume is not restored, and the pod says so.
func TestAChangedStateInAVolumeIsNotRestored(t *testing.T) {
	for name, test := range map[string]struct{ change, says string }{
		"changed": {"printf x | dd of=%s bs=1 seek=1000 conv=notrunc", "its SHA-256 is another one"},
		"gone":    {"rm %s", "is not there"},
		"a link":  {"mv %[1]s %[1]s.former && ln -s %[1]s.former %[1]s", "is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			dir := "/var/lib/states-" + strings.ReplaceAll(name, " ", "-")
			w := prepareWorkload(t, c, plainPod, nil)
			storingOn(t, w, dir)
			w.create(t)
			pod := w.running(t, nil)
			before := waitForCount(t, c, pod, 50)
			w.endForGood(t, pod)
			made := w.inVolume(t, pod, dir)
			c.OnNode(t, storeNode, fmt.Sprintf(test.change, dir+"/"+capture.KeptFolder+"/"+made.Status.Volume.File))
			w.create(t)
			next := w.running(t, pod)
			said := w.restored(t, next)
			if said.Status != corev1.ConditionFalse || said.Reason != keys.ColdVolumeStateLost || !strings.Contains(said.Message, test.says) {
				t.Errorf("it says %+v", said)
			}
			w.tells(t, next, keys.ColdVolumeStateLost)
			if now := w.countOf(t, next); now.Count >= before.Count {
				t.Errorf("it was at %d, and is at %d", before.Count, now.Count)
			}
			w.endForGood(t, next) // which leaves a state of its own
			w.inVolume(t, next, dir)
			w.create(t)
			w.goesOn(t, w.running(t, next), answer{PID: before.PID}, nil)
		})
	}
}

// Where the volume takes nothing, the state goes to the bucket, and the pod goes on from there.
func TestAVolumeThatIsFull(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	const dir = "/var/lib/states-full"
	w := prepareWorkload(t, c, plainPod, nil)
	storingOn(t, w, dir)
	c.OnNode(t, storeNode, "mount -t tmpfs -o size=64k none "+dir)
	t.Cleanup(func() {
		_, _ = lab.Localcluster(context.Background(), c.Name, "node", "exec", storeNode, "--", "umount", "-l", dir)
	})
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 10)
	w.endForGood(t, pod)
	made := w.checkpoint(t, pod, "is complete", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	if made.Status.Volume != nil || made.Status.LocationName == "" {
		t.Errorf("its status is %+v", made.Status)
	}
	has(t, w.events(t, pod), `NotKeptInVolume: the state is not kept in volume "data" (PersistentVolumeClaim data): `)
	w.create(t)
	w.goesOn(t, w.running(t, pod), before, nil)
}

func TestAStorageVolumeThatThereIsNot(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{keys.CheckpointStorageVolume: "data"}
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: w.template.Labels, Annotations: w.template.Annotations}, Spec: w.template.Spec}
	_, err := c.Client.CoreV1().Pods(w.ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), `is "data"; it may be the name of a volume of the pod: "scratch"`) {
		t.Errorf("it is refused as %v", err)
	}
}

// A pod that goes on has its states written into its volume as well, and those who take its place are of its line.
func TestALiveCaptureIsKeptInAVolume(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	const dir = "/var/lib/states-live"
	w := prepareWorkload(t, c, deployment, nil)
	w.template.Spec.RestartPolicy = corev1.RestartPolicyAlways
	storingOn(t, w, dir)
	w.policy(t, v1alpha1.RestorePolicySpec{VolumeChanges: v1alpha1.VolumeChangesRestore})
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 10)
	for _, name := range []string{"one", "two", "three"} {
		w.byHand(t, name, pod, nil)
		made := w.named(t, name, isComplete)
		if made.Status.Volume == nil || made.Status.LocationName != "" {
			t.Fatalf("the status of %s is %+v", name, made.Status)
		}
		now := w.countOf(t, pod)
		undisturbed(t, before, now)
		before = now
	}
	if got := statesOn(t, c, dir); len(got) != 2 {
		t.Errorf("the volume has %v", got)
	}
	w.endForGood(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	w.endForGood(t, next) // whose line is that of the first
	w.goesOn(t, w.running(t, next), before, nil)
	if got := statesOn(t, c, dir); len(got) != 2 {
		t.Errorf("the volume has %v", got)
	}
}
