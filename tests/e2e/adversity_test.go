package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

func scale(t *testing.T, w *workload, replicas int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	var err error
	if w.kind == statefulSet {
		_, err = w.c.Client.AppsV1().StatefulSets(w.ns).Patch(t.Context(), workloadName, types.MergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = w.c.Client.AppsV1().Deployments(w.ns).Patch(t.Context(), workloadName, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func eventuallyGone(t *testing.T, what string, get func() error) {
	t.Helper()
	lab.Eventually(t, time.Minute, what+" is gone", func() error {
		switch err := get(); {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("it is there")
	})
}

// agents lets the agents run, or not.
func agents(t *testing.T, c *lab.Cluster, run bool) {
	t.Helper()
	where := map[string]any{"no-such-node": "true"}
	if run {
		where["no-such-node"] = nil
	}
	patch := patchJSON(t, map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"nodeSelector": where}}}})
	all := c.Client.AppsV1().DaemonSets(install.AgentNamespace)
	if _, err := all.Patch(context.Background(), install.Agent, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, fmt.Sprintf("agents run: %t", run), func() error {
		agents := metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + install.Agent}
		pods, err := c.Client.CoreV1().Pods(install.AgentNamespace).List(context.Background(), agents)
		if err != nil {
			return err
		}
		ready := 0
		for _, pod := range pods.Items {
			for _, condition := range pod.Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp.IsZero() {
					ready++
				}
			}
		}
		if run && ready != 2 || !run && len(pods.Items) > 0 {
			return fmt.Errorf("of %d agents %d are ready", len(pods.Items), ready)
		}
		return nil
	})
}

func TestWithoutAnAgentThePodIsCapturedAndPublishedLater(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 10)
	cordon(t, c, map[string]string{"worker-1": "worker-2", "worker-2": "worker-1"}[pod.Spec.NodeName])
	agents(t, c, false)
	back := false
	t.Cleanup(func() {
		if !back {
			agents(t, c, true)
		}
	})
	w.deletePod(t, pod)
	var waiting *corev1.Pod
	lab.Eventually(t, time.Minute, "the new pod says what it waits for", func() error {
		pods, err := c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(pods.Items) != 1 {
			return fmt.Errorf("there are %d pods: %w", len(pods.Items), err)
		}
		waiting = &pods.Items[0]
		if text := w.events(t, waiting); !strings.Contains(text, "checkpoint agent not running on this node") {
			return fmt.Errorf("its events are\n%s", text)
		}
		return nil
	})
	agents(t, c, true)
	back = true
	w.goesOn(t, w.running(t, pod), before, nil)
	w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
}

func TestAnAgentKilledInTheMiddleOfAnUploadGoesOn(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-mib=600"}
	})
	before := waitForCount(t, c, pod, 10)
	killed := make(chan string, 1)
	go func() { // as soon as something is on its way to the bucket
		output, _ := lab.Localcluster(t.Context(), c.Name, "node", "exec", pod.Spec.NodeName, "--", "sh", "-ec", killUploader)
		killed <- output
	}()
	w.deletePod(t, pod)
	select {
	case output := <-killed:
		if !strings.Contains(output, "killed") {
			t.Fatalf("the agent was not killed: %q", output)
		}
	case <-time.After(time.Minute):
		t.Fatal("the agent was not killed in time")
	}
	w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	w.goesOn(t, w.running(t, pod), before, nil)
}

// killUploader waits on a node until its agent uploads, which the size of what it sent tells, and kills it.
const killUploader = `
agent=; for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = agent ]; then agent=${p#/proc/}; fi; done
[ -n "$agent" ] || { echo no agent; exit 1; }
sent() { awk '/wchar/ {print $2}' /proc/$agent/io; }
start=$(sent)
for i in $(seq 1 3000); do
  if ls -d /var/lib/checkpoint/captures/*/[0-9]* 2>/dev/null | grep -qv partial && [ $(( $(sent) - start )) -gt 60000000 ]; then
    kill -9 $agent; echo killed after $(( $(sent 2>/dev/null || echo $start) - start )) bytes; exit 0
  fi
  sleep 0.02
done
echo not seen uploading`

func TestWhileTheBucketIsDownThePodGoesOnAndTheUploadWaits(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 10)
	cordon(t, c, map[string]string{"worker-1": "worker-2", "worker-2": "worker-1"}[pod.Spec.NodeName])
	c.Run(t, "component", "stop", "minio")
	up := false
	start := func() {
		if !up {
			c.Run(t, "component", "start", "minio")
			up = true
		}
	}
	defer start()
	w.deletePod(t, pod)
	w.goesOn(t, w.running(t, pod), before, nil) // from the node's own disk
	waiting := w.checkpoint(t, pod, "waits for the bucket", is(v1alpha1.CheckpointUploaded, metav1.ConditionFalse, v1alpha1.ReasonStorageUnavailable))
	events, err := c.Client.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + waiting.Name})
	if err != nil || !strings.Contains(fmt.Sprintf("%+v", events.Items), v1alpha1.ReasonStorageUnavailable) {
		t.Errorf("no event says so: %v, %v", events, err)
	}
	start()
	w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
}

// While the API server is down, kubelet evicts a pod by itself: its emptyDir has outgrown its limit.
func TestAPodThatKubeletKillsWithoutTheAPIServerIsCaptured(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		limit := resource.MustParse("4Mi")
		template.Spec.Volumes[0].EmptyDir.SizeLimit = &limit
	})
	before := waitForCount(t, c, pod, 10)
	c.Run(t, "component", "stop", "kube-apiserver")
	up := false
	start := func() {
		if !up {
			c.Run(t, "component", "start", "kube-apiserver")
			up = true
		}
	}
	defer start()
	volume := "/var/lib/kubelet/pods/" + string(pod.UID) + "/volumes/kubernetes.io~empty-dir/scratch/filler"
	c.OnNode(t, pod.Spec.NodeName, "dd if=/dev/zero of="+volume+" bs=1M count=8 2>/dev/null")
	captured := "/var/lib/checkpoint/captures/" + string(pod.UID) + "/1/capture.json"
	lab.Eventually(t, 5*time.Minute, "the node has captured it", func() error {
		_, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", pod.Spec.NodeName, "--", "grep", "-q", `"state": "complete"`, captured)
		return err
	})
	start()
	// kube-proxy of the node, and then its agent, ask again up to a minute after they were refused, the longer the server was away.
	lab.Eventually(t, 4*time.Minute, "the node's agent reaches the API server, and says what it has", func() error {
		list, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("there is no Checkpoint")
		}
		return err
	})
	found := w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	if found.Spec.Trigger != v1alpha1.TriggerNodePressure {
		t.Errorf("its trigger is %s", found.Spec.Trigger)
	}
	admits(t, c)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
}

// admits waits until the webhook sees new pods again: a manager ended when it could not renew its lease. What the API says of their pods may be of
// before the outage, so it is tried.
func admits(t *testing.T, c *lab.Cluster) {
	t.Helper()
	probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe", Labels: map[string]string{keys.CheckpointMode: keys.True}}, Spec: serving()}
	lab.Eventually(t, 2*time.Minute, "new pods are admitted", func() error {
		for n := range 20 { // not by the luck of one
			made, err := c.Client.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				return err
			}
			if made.Spec.RuntimeClassName == nil {
				return fmt.Errorf("the webhook has not seen pod %d", n+1)
			}
		}
		return nil
	})
}

func TestWhereCRIUFailsTheProcessGetsItsSignal(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-undumpable"}
	})
	waitForCount(t, c, pod, 10)
	began := time.Now()
	w.deletePod(t, pod)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the pod was gone after %s: its process did not get the signal", took)
	}
	failed := w.checkpoint(t, pod, "has failed", is(v1alpha1.CheckpointReady, metav1.ConditionFalse, v1alpha1.StateFailed))
	if err := is(v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.ReasonDumpFailed)(failed); err != nil {
		t.Error(err)
	}
	has(t, fmt.Sprintf("%+v", failed.Status.Conditions), "Error (criu/")
	next := w.running(t, pod)
	if cold := w.restored(t, next); cold.Status != "False" || cold.Reason != keys.ColdNoCheckpoint {
		t.Errorf("the next pod says %+v", cold)
	}
}

func TestWhereARestoreFailsThePodStartsColdAsIfNothingHadBeenTried(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, job, nil)
	for path, content := range files {
		put(t, c, pod, path, content)
	}
	before := waitForCount(t, c, pod, 30)
	other := map[string]string{"worker-1": "worker-2", "worker-2": "worker-1"}[pod.Spec.NodeName]
	const find = `criu=$(sed -n 's/.*"criuDirectory": "\(.*\)".*/\1/p' /opt/checkpoint/runtime.json)/criu; `
	c.OnNode(t, other, find+`mv $criu $criu.whole; printf '#!/bin/sh\nexit 1\n' > $criu; chmod 755 $criu`)
	mended := false
	mend := func() {
		if !mended {
			c.OnNode(t, other, find+`mv $criu.whole $criu`)
			mended = true
		}
	}
	defer mend()
	cordon(t, c, pod.Spec.NodeName)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	mend()
	cold := w.restored(t, next)
	if cold.Status != "False" || cold.Reason != keys.ColdRestoreFailed || cold.Message == "" {
		t.Errorf("it says %+v", cold)
	}
	w.tells(t, next, keys.ColdRestoreFailed)
	if now := w.countOf(t, next); now.Count >= before.Count {
		t.Errorf("before it was %+v, now it is %+v", before, now)
	}
	for path := range files {
		if content, err := ask(t.Context(), c, next, "file"+path, nil); err == nil {
			t.Errorf("%s is there: %q", path, content)
		}
	}
	for _, dir := range []string{"/", "/scratch", "/dev/shm"} {
		if content, err := ask(t.Context(), c, next, "list"+dir, nil); err != nil || strings.Contains(content, ".checkpoint") {
			t.Errorf("%s holds %q, %v", dir, content, err)
		}
	}
	w.checkpoint(t, pod, "is released", func(c *v1alpha1.Checkpoint) error {
		if c.Status.Claim != nil {
			return fmt.Errorf("its claim is %+v", c.Status.Claim)
		}
		return nil
	})
}

func TestAContainerThatFailsItsProbeDoesNotTouchItsSibling(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		sick := corev1.Container{Name: "sick", Image: image, ImagePullPolicy: corev1.PullNever, Args: []string{"serve", "-address=:8081"}}
		sick.LivenessProbe = &corev1.Probe{
			ProbeHandler:        corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "nonsense"}}},
			InitialDelaySeconds: 5, PeriodSeconds: 1, FailureThreshold: 2,
		}
		template.Spec.Containers = append(template.Spec.Containers, sick)
	})
	before := waitForCount(t, c, pod, 10)
	lab.Eventually(t, time.Minute, "the sick container was started anew", func() error {
		now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, status := range now.Status.ContainerStatuses {
			if status.Name == "sick" && status.RestartCount > 0 {
				return nil
			}
		}
		return fmt.Errorf("its containers are %+v", now.Status.ContainerStatuses)
	})
	after := waitForCount(t, c, pod, before.Count+10)
	if after.PID != before.PID {
		t.Errorf("before it was %+v, now it is %+v", before, after)
	}
	now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range now.Status.ContainerStatuses {
		if status.Name == "app" && status.RestartCount > 0 {
			t.Errorf("the healthy container was started anew: %+v", status)
		}
	}
}

func TestABadValueOfALabelIsRejected(t *testing.T) {
	c := labelled(t)
	ns := namespace(t, c)
	for label, value := range map[string]string{keys.CheckpointMode: "yes", keys.RestoreMode: "no", keys.CheckpointVolumeSize: "big"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bad", Labels: map[string]string{keys.CheckpointMode: keys.True, label: value}}, Spec: serving()}
		_, err := c.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), label) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: it says %v", label, value, err)
		}
	}
}

// Whoever captures is killed in the middle of the dump, and once more while it begins again, if that is not too quick: the work is not lost.
func TestACaptureThatIsKilledIsBegunAgain(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, statefulSet, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-mib=600"}
	})
	before := waitForCount(t, c, pod, 10)
	killed := make(chan string, 1)
	go func() {
		output, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", pod.Spec.NodeName, "--", "sh", "-ec", fmt.Sprintf(killCapture, pod.UID))
		killed <- fmt.Sprint(output, err)
	}()
	w.deletePod(t, pod)
	output := <-killed
	if !strings.Contains(output, "killed in dumping") {
		t.Fatalf("the capture was not killed: %s", output)
	}
	t.Logf("killed %d times", strings.Count(output, "killed in dumping"))
	w.goesOn(t, w.running(t, pod), before, nil)
	w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
}

// killCapture waits on a node until the capture of a pod writes memory, and kills the process that is behind it; the second one too, if it gets it.
const killCapture = `
for turn in 3000 300; do
  for i in $(seq 1 $turn); do
    size=$(cat /var/lib/checkpoint/captures/%[1]s/*.partial/containers/*/criu/pages-*.img 2>/dev/null | head -c 50000000 | wc -c)
    if [ $size -ge 50000000 ]; then
      for p in /proc/[0-9]*; do
        case "$(tr '\0' ' ' < $p/cmdline 2>/dev/null)" in
        */checkpoint-runtime\ capture\ %[1]s\ |*/checkpoint-runtime\ settle\ %[1]s\ ) kill -9 ${p#/proc/}; found=1 ;;
        esac
      done
      if [ -n "$found" ]; then
        sed -n 's/.*"state": "\(.*\)".*/killed in \1/p' /var/lib/checkpoint/captures/%[1]s/*.partial/capture.json 2>/dev/null || true
        found=; sleep 0.5; break
      fi
    fi
    sleep 0.01
  done
done`

func TestARestoreThatIsKilledIsBegunAgain(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		onWorker1(template)
		template.Spec.Containers[0].Args = []string{"serve", "-mib=600"}
	})
	before := waitForCount(t, c, pod, 10)
	killed := make(chan string, 1)
	go func() {
		output, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-1", "--", "sh", "-ec", killRestore)
		killed <- fmt.Sprint(output, err)
	}()
	w.deletePod(t, pod)
	next := w.running(t, pod)
	if output := <-killed; !strings.Contains(output, "killed before it had begun") {
		t.Fatalf("the restore was not killed: %s", output)
	}
	w.goesOn(t, next, before, nil)
	lab.Eventually(t, 20*time.Second, "kubelet says that it made the container anew once", func() error {
		now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), next.Name, metav1.GetOptions{})
		if err == nil && now.Status.ContainerStatuses[0].RestartCount != 1 {
			err = fmt.Errorf("it says %d times", now.Status.ContainerStatuses[0].RestartCount)
		}
		return err
	})
}

// killRestore waits on a node until CRIU restores memory, and kills the process that is behind it.
const killRestore = `
for i in $(seq 1 6000); do
  for result in /var/lib/checkpoint/restores/*/result-app.json; do
    grep -q attempted $result 2>/dev/null || continue
    dir=${result%/*}
    grep -q . $dir/log-app/restore.log 2>/dev/null || continue
    for p in /proc/[0-9]*; do
      case "$(tr '\0' ' ' < $p/cmdline 2>/dev/null)" in
      */checkpoint-runtime\ *\ create\ *) kill -9 ${p#/proc/}; found=1 ;;
      esac
    done
    [ -n "$found" ] && { [ -e $dir/begun-app ] && echo "too late" || echo "killed before it had begun"; exit 0; }
  done
  sleep 0.01
done`
