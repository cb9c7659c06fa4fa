package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

func limitsOf(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("10Mi")},
	}
}

// A dump and a restore work inside the pod's control group. With a tenth of a processor they would take ten times as long as they may.
func TestAPodWithLittleProcessorTimeIsCapturedAndRestoredQuickly(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-touch-mib=512"}
		template.Spec.Containers[0].Resources = limitsOf("100m", "700Mi")
	})
	before, sum := waitForCount(t, c, pod, 1), answerOf(t, c, pod, "checksum")
	began := time.Now()
	w.deletePod(t, pod)
	gone := time.Since(began)
	next := w.running(t, pod)
	held := w.heldBack(t, next)
	w.goesOn(t, next, before, nil)
	if got := answerOf(t, c, next, "checksum"); got != sum {
		t.Errorf("its memory was %s, it is %s", sum, got)
	}
	took := restoredIn(t, w.restored(t, next))
	frozen := w.checkpoint(t, pod, "is captured", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted)).Status.Frozen.Duration
	t.Logf("gone after %s, frozen %s, restored in %s, of which its limit has held it back for %s", gone, frozen, took, held)
	if held > 5*time.Second { // a restore uses about a second of a processor, for which it would wait for nine
		t.Errorf("its limit has held it back for %s", held)
	}
	w.holds(t, next, "10000", strconv.Itoa(700<<20))
	if share, err := strconv.Atoi(answerOf(t, c, next, "spin")); err != nil || share > 25 {
		t.Errorf("it gets %d%% of a processor, %v; it may have 10%%", share, err)
	}
}

func TestAPodAtTheBrimOfItsMemoryIsCapturedAndRestored(t *testing.T) {
	for what, test := range map[string]struct {
		args  []string
		files []string // of 30 MiB
	}{
		"of its process": {args: []string{"serve", "-mib=10", "-touch-mib=188"}},
		"of its process and its files": {
			args: []string{"serve", "-mib=10", "-touch-mib=40"}, files: []string{"/scratch/1", "/scratch/2", "/dev/shm/1", "/dev/shm/2"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Spec.Volumes[0].EmptyDir.Medium = corev1.StorageMediumMemory
				template.Spec.Containers[0].Args, template.Spec.Containers[0].Resources = test.args, limitsOf("1", "210Mi")
			})
			before, sum := waitForCount(t, c, pod, 1), answerOf(t, c, pod, "checksum")
			for i, path := range test.files {
				fill := strings.Repeat(strconv.Itoa(i), 1<<20)
				for part := range 10 { // in parts, as the program holds what is sent
					put(t, c, pod, fmt.Sprint(path, "-", part), strings.Repeat(fill, 3))
				}
			}
			had := w.memory(t, pod)
			w.deletePod(t, pod)
			next := w.running(t, pod)
			w.goesOn(t, next, before, nil)
			if got := answerOf(t, c, next, "checksum"); got != sum {
				t.Errorf("its memory was %s, it is %s", sum, got)
			}
			has := w.memory(t, next)
			t.Logf("of 210 MiB the pod had %d MiB in memory, the new one has %d MiB", had>>20, has>>20)
			if has < had-10<<20 {
				t.Errorf("before %d MiB counted for its limit, now %d MiB do", had>>20, has>>20)
			}
			now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), next.Name, metav1.GetOptions{})
			if err != nil || now.Status.ContainerStatuses[0].RestartCount > 0 {
				t.Errorf("it was started again: %+v, %v", now.Status.ContainerStatuses, err)
			}
			w.holds(t, next, "100000", strconv.Itoa(210<<20))
		})
	}
}

func TestAPodHasItsLimitsAfterAFailedCapture(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-undumpable", "-ignore-term"}
		template.Spec.Containers[0].Resources = limitsOf("200m", "100Mi")
	})
	waitForCount(t, c, pod, 1)
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.checkpoint(t, pod, "has failed", is(v1alpha1.CheckpointReady, metav1.ConditionFalse, v1alpha1.StateFailed))
	lab.Eventually(t, 30*time.Second, "the stop signal has come", func() error {
		_, err := ask(t.Context(), c, pod, "file/scratch/term", nil)
		return err
	})
	w.holds(t, pod, "20000", strconv.Itoa(100<<20))
}

// The runtime is killed while a restore goes on, for which limits of the pod are lifted.
func TestAPodHasItsLimitsAfterARestoreThatWasKilled(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "worker-1"}
		template.Spec.Containers[0].Args = []string{"serve", "-touch-mib=600"}
		template.Spec.Containers[0].Resources = limitsOf("300m", "800Mi")
	})
	waitForCount(t, c, pod, 1)
	killed := make(chan string, 1)
	go func() {
		output, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-1", "--", "sh", "-ec", fmt.Sprintf(killWhoLifts, pod.UID))
		killed <- fmt.Sprint(output, err)
	}()
	w.deletePod(t, pod)
	if said := <-killed; !strings.Contains(said, "killed") {
		t.Fatalf("the restore was not killed: %s", said)
	}
	next := w.running(t, pod)
	waitForCount(t, c, next, 1)
	t.Logf("it says %+v", w.restored(t, next)) // whether it is restored at the second try depends on how far the first one came
	w.holds(t, next, "30000", strconv.Itoa(800<<20))
}

// killWhoLifts waits on a node until limits are lifted for a restore from the capture of the pod %[1]s, and kills whoever does it.
const killWhoLifts = `
for i in $(seq 1 6000); do
  for f in $(ls /var/lib/checkpoint/restores/*/lifted.json 2>/dev/null); do
    d=$(dirname $f)
    grep -qs %[1]s $d/states/*/*/capture.json 2>/dev/null || continue
    for p in $(grep -lsz '/checkpoint-runtime$' /proc/[0-9]*/cmdline); do
      case "$(tr '\0' ' ' < $p 2>/dev/null)" in
      *\ create\ *)
        id=$(tr '\0' '\n' < $p | tail -n 1)
        if grep -q $(basename $d) /run/checkpoint/containers/$id.json; then p=${p%%/cmdline}; kill -9 ${p#/proc/}; echo killed; exit 0; fi ;;
      esac
    done
  done
  sleep 0.01
done
echo nothing to kill`

// answerOf asks testapp.
func answerOf(t *testing.T, c *lab.Cluster, pod *corev1.Pod, path string) string {
	t.Helper()
	body, err := ask(t.Context(), c, pod, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// restoredIn reads how long a restore took from the condition that says so.
func restoredIn(t *testing.T, c corev1.PodCondition) time.Duration {
	t.Helper()
	_, text, _ := strings.Cut(c.Message, "restored in ")
	took, err := time.ParseDuration(text)
	if err != nil {
		t.Errorf("the condition says %q", c.Message)
	}
	return took
}

// holds checks the limits of a pod's group and of its container's, as the kernel has them: the quota of processor time in microseconds of 100,000,
// and bytes of memory.
func (w *workload) holds(t *testing.T, pod *corev1.Pod, quota, memory string) {
	t.Helper()
	want := fmt.Sprintf("%[1]s %[2]s\n%[1]s %[2]s\n", quota, memory)
	lab.Eventually(t, 20*time.Second, "pod "+pod.Name+" has its limits", func() error {
		got, err := w.onGroups(t.Context(), pod, `
[ -n "$unified" ] && cat $g/cpu.max $g/memory.max || cat $cpu/cpu.cfs_quota_us $memory/memory.limit_in_bytes`)
		fields := strings.Fields(strings.ReplaceAll(got, " 100000", ""))
		if err != nil || len(fields) != 4 {
			return fmt.Errorf("they are %q: %w", got, err)
		}
		if has := fmt.Sprintf("%s %s\n%s %s\n", fields[0], fields[1], fields[2], fields[3]); has != want {
			return fmt.Errorf("its container and itself have %q; want %q", has, want)
		}
		return nil
	})
}

// memory returns what counts for a pod's limit of memory and is no cache of files on a disk, in bytes.
func (w *workload) memory(t *testing.T, pod *corev1.Pod) int64 {
	t.Helper()
	got, err := w.onGroups(t.Context(), pod, `
[ -n "$unified" ] && grep -wE 'anon|shmem' $g/memory.stat || grep -E '^total_(rss|shmem) ' $memory/memory.stat`)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(got)
	sum := int64(0)
	for i := 5; i < len(lines); i += 2 { // those of the pod, behind those of the container
		bytes, err := strconv.ParseInt(lines[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += bytes
	}
	return sum
}

// heldBack returns for how long the limit of processor time has held a pod's processes back so far.
func (w *workload) heldBack(t *testing.T, pod *corev1.Pod) time.Duration {
	t.Helper()
	got, err := w.onGroups(t.Context(), pod, `
[ -n "$unified" ] && awk '/^throttled_usec/ {print $2 "us"}' $g/cpu.stat || awk '/^throttled_time/ {print $2 "ns"}' $cpu/cpu.stat`)
	if err != nil {
		t.Fatal(err)
	}
	sum := time.Duration(0)
	for _, text := range strings.Fields(got) {
		held, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		sum += held
	}
	return sum
}

// onGroups runs a script on the pod's node for the control group of its container and for that of the pod above: $unified is set on version 2,
// where $g is the group; else $cpu and $memory are.
func (w *workload) onGroups(ctx context.Context, pod *corev1.Pod, script string) (string, error) {
	now, err := w.c.Client.CoreV1().Pods(w.ns).Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	id := strings.TrimPrefix(now.Status.ContainerStatuses[0].ContainerID, "containerd://")
	return lab.Localcluster(ctx, w.c.Name, "node", "exec", now.Spec.NodeName, "--", "sh", "-ec", fmt.Sprintf(groupsOf, id)+
		"for up in '' /..; do g=$unified$up cpu=$cpu0$up memory=$memory0$up\n"+script+"\ndone")
}

const groupsOf = `
pid=$(cat $(sed -n 's/.*"pidFile": "\(.*\)".*/\1/p' /run/checkpoint/containers/%s.json))
at() { sed -n "s/^[0-9]*:\([^:]*,\)*$1\(,[^:]*\)*://p" /proc/$pid/cgroup; }
unified= cpu0= memory0=
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then unified=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup); else
cpu0=/sys/fs/cgroup/cpu$(at cpu); memory0=/sys/fs/cgroup/memory$(at memory); fi
`
