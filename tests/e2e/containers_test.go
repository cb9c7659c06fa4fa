package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// container is one of testapp that shares the emptyDir /scratch.
func container(name string, args ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullNever, Args: args,
		VolumeMounts: []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}},
	}
}

// counts asks another container of a pod, by the pod's own network.
func counts(t *testing.T, c *lab.Cluster, pod *corev1.Pod, port string) (found answer) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "the container at port "+port+" answers", func() error {
		text, err := ask(t.Context(), c, pod, "fetch", url.Values{"url": {"http://127.0.0.1:" + port + "/count"}})
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(text), &found)
	})
	return found
}

// Of a pod with every kind of container those go on that ran: also one that kubelet had started twice, and a native sidecar. What an init container
// wrote again is what was captured. A container that had ended, and one that a person had added, neither break the capture nor come back.
func TestAPodOfEveryKindOfContainer(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		s := &template.Spec
		s.RestartPolicy = corev1.RestartPolicyOnFailure
		side := container("side", "serve", "-address=:8081")
		side.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		s.InitContainers = []corev1.Container{container("fill", "write", "-file=/scratch/filled", "-text=by the init container"), side}
		s.Containers = append(s.Containers, container("twice", "serve", "-address=:8082", "-file=/scratch/twice"), container("once", "count"))
	})
	w.countOf(t, pod)
	put(t, c, pod, "/scratch/filled", "by the program")
	lab.Eventually(t, time.Minute, "a container has ended, and one was started again", func() error {
		now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		done := 0
		for _, status := range now.Status.ContainerStatuses {
			if status.Name == "once" && status.State.Terminated != nil || status.Name == "twice" && status.RestartCount > 0 && status.State.Running != nil {
				done++
			}
		}
		if done < 2 {
			return fmt.Errorf("they are %+v", now.Status.ContainerStatuses)
		}
		return nil
	})
	debug := corev1.EphemeralContainer{
		TargetContainerName: "app",
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", Image: image, ImagePullPolicy: corev1.PullNever, Args: []string{"serve", "-address=:8083"},
		},
	}
	now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now.Spec.EphemeralContainers = append(now.Spec.EphemeralContainers, debug)
	if _, err := c.Client.CoreV1().Pods(w.ns).UpdateEphemeralContainers(t.Context(), pod.Name, now, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	counts(t, c, pod, "8083")
	time.Sleep(time.Second)
	before := map[string]answer{"8081": counts(t, c, pod, "8081"), "8082": counts(t, c, pod, "8082")}
	next := w.again(t, pod)
	for port, was := range before {
		if is := counts(t, c, next, port); is.Count < was.Count {
			t.Errorf("port %s: before it was %+v, now it is %+v", port, was, is)
		}
	}
	if text := say(t, c, next, "file/scratch/filled"); text != "by the program" {
		t.Errorf("the emptyDir has what was written %s", text)
	}
	if text, err := ask(t.Context(), c, next, "fetch", url.Values{"url": {"http://127.0.0.1:8083/count"}}); err == nil {
		t.Errorf("the container for debugging is back: %s", text)
	}
	put(t, c, next, "/scratch/filled", "once more")
	if text := say(t, c, w.again(t, next), "file/scratch/filled"); text != "once more" {
		t.Errorf("the emptyDir has what was written %s", text)
	}
}

// claimed makes a volume on a node's disk, and a claim that it is bound to.
func claimed(t *testing.T, c *lab.Cluster, ns, node, dir string) string {
	t.Helper()
	name, size := ns+"-data", corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	where := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
		Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
	}}}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: "none",
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir}},
		NodeAffinity:           &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{where}}},
	}}
	if _, err := c.Client.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Client.CoreV1().PersistentVolumes().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: volume.Spec.AccessModes, StorageClassName: new("none"), VolumeName: name, Resources: corev1.VolumeResourceRequirements{Requests: size},
	}}
	if _, err := c.Client.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return claim.Name
}

// What a claim holds stays where it is: it is not captured, and what changed on it meanwhile is there. Files that were open on it go on. When one of
// them is gone the pod starts cold, from a state like that of a pod of which nobody ever tried to restore anything.
func TestClaimsAreMountedAgain(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	const node, dir = "worker-1", "/var/lib/claimed"
	c.OnNode(t, node, "rm -rf "+dir+" && mkdir -p "+dir)
	w := prepareWorkload(t, c, plainPod, nil)
	claim := claimed(t, c, w.ns, node, dir)
	w.template.Spec.Volumes = append(w.template.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}})
	app := &w.template.Spec.Containers[0]
	app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"},
		corev1.VolumeMount{Name: "scratch", MountPath: "/part", SubPath: "part"})
	w.template.Spec.InitContainers = []corev1.Container{container("fill", "write", "-file=/scratch/filled", "-text=by the init container")}
	w.create(t)
	pod := w.running(t, nil)
	w.countOf(t, pod)
	fresh := looks(t, c, pod)
	put(t, c, pod, "/data/other", "as it was")
	put(t, c, pod, "/data/open", "begin")
	say(t, c, pod, "hold", "path=/data/open", fmt.Sprint("flags=", os.O_WRONLY|os.O_APPEND))
	for _, dir := range []string{"/", "/scratch/", "/dev/shm/", "/part/"} {
		say(t, c, pod, "build", "what=all", "at="+dir+"made")
	}
	put(t, c, pod, "/scratch/filled", "by the program")
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, answer{PID: 1}, map[string]string{"/scratch/filled": "by the program"})
	say(t, c, next, "write", "n=0", "text=, end")
	if text := say(t, c, next, "file/data/open"); text != "begin, end" {
		t.Errorf("the file on the claim holds %q", text)
	}
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), next.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, next)
	c.OnNode(t, node, "rm "+dir+"/open; printf changed > "+dir+"/other")
	w.create(t)
	last := w.running(t, next)
	w.countOf(t, last)
	if cold := w.restored(t, last); cold.Status != corev1.ConditionFalse || cold.Reason != keys.ColdRestoreFailed {
		t.Errorf("without a file that was open it says %+v", cold)
	} else {
		t.Log(cold.Message)
		events := w.events(t, last)
		for _, part := range []string{"Error (criu/", "A file that the program had open is not there.", "Keep it on the volume"} { // CRIU's word, and what to do
			has(t, cold.Message, part)
			has(t, events, part)
		}
	}
	if text := say(t, c, last, "file/data/other"); text != "changed" {
		t.Errorf("the claim holds %q", text)
	}
	if diff := cmp.Diff(fresh, looks(t, c, last)); diff != "" {
		t.Errorf("after a restore that failed it is another state than that of a first pod (-first +last)\n%s", diff)
	}
	put(t, c, last, "/part/here", "in the part")
	if text := say(t, c, last, "file/scratch/part/here"); text != "in the part" {
		t.Errorf("the subPath is not the emptyDir's: %q", text)
	}
}

// timeOf is where testapp says when a file was changed.
var timeOf = regexp.MustCompile(` [0-9]{19}`)

// looks returns all files that a pod has of its own, without their times.
func looks(t *testing.T, c *lab.Cluster, pod *corev1.Pod) map[string]lines {
	t.Helper()
	found := map[string]lines{}
	for _, dir := range []string{"/", "/scratch", "/dev/shm", "/part"} {
		found[dir] = query[lines](t, c, pod, "look", "at="+dir)
		for name, line := range found[dir] {
			found[dir][name] = timeOf.ReplaceAllString(line, "")
		}
	}
	return found
}
