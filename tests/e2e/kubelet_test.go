package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// heard are the warnings that the API server gave.
type heard []string

// HandleWarningHeader takes one down.
func (h *heard) HandleWarningHeader(_ int, _ string, text string) { *h = append(*h, text) }

// warnings returns what the API server would say of a pod.
func warnings(t *testing.T, c *lab.Cluster, ns string, template corev1.PodTemplateSpec) string {
	t.Helper()
	var found heard
	config := rest.CopyConfig(c.Config)
	config.WarningHandler = &found
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "asked", Labels: template.Labels}, Spec: template.Spec}
	if _, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, "\n")
}

// kubelet takes a restored container for one that it started: it runs its postStart hook again, which is said before and after, and probes it. When the
// probe fails the container begins from scratch, and the pod says so.
func TestKubeletLooksAfterARestoredContainer(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	port := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		app := &template.Spec.Containers[0]
		app.StartupProbe = &corev1.Probe{ProbeHandler: port, PeriodSeconds: 1, FailureThreshold: 60}
		app.ReadinessProbe = &corev1.Probe{ProbeHandler: port, PeriodSeconds: 1, TimeoutSeconds: 5}
		app.LivenessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthy", Port: intstr.FromInt32(8080)}},
			PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: 2,
		}
		hook := &corev1.ExecAction{Command: []string{"/testapp", "append", "/scratch/hooked", "hooked"}}
		app.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: hook}}
	})
	has(t, warnings(t, c, w.ns, w.template), `container "app" has a postStart hook`)
	before := waitForCount(t, c, pod, 20)
	w.isReady(t, pod, 0)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	now := w.goesOn(t, next, before, map[string]string{"/scratch/hooked": "hooked\nhooked\n"})
	w.isReady(t, next, 0)
	const again = `kubelet runs the postStart hook of container "app" again`
	has(t, w.restored(t, next).Message, again)
	w.tells(t, next, again)
	say(t, c, next, "sicken")
	w.isReady(t, next, 1)
	w.saysRestarted(t, next)
	if cold := w.countOf(t, next); cold.Count >= now.Count {
		t.Errorf("before its probe failed it was %+v, now it is %+v", now, cold)
	}
}

// isReady waits until the only container of a pod has passed its probes, after so many restarts.
func (w *workload) isReady(t *testing.T, pod *corev1.Pod, restarts int32) {
	t.Helper()
	lab.Eventually(t, time.Minute, fmt.Sprintf("the container is ready after %d restarts", restarts), func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range now.Status.ContainerStatuses {
			if s.RestartCount == restarts && s.Ready && s.Started != nil && *s.Started {
				return nil
			}
		}
		return fmt.Errorf("its containers are %+v", now.Status.ContainerStatuses)
	})
}

// counting is a shell that counts the signals USR1 that came, in a variable of its own.
const counting = `n=0; trap 'n=$((n+1)); echo $n > /n' USR1; echo counting; while :; do sleep 0.1; done`

// kubectl copies files into and out of a restored pod, and tells how a command ended.
func TestKubectlCopiesAndTellsExitCodes(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	c.Run(t, "image", "build", "localhost/debian:e2e", "--from-debian=netcat-openbsd")
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		app := &template.Spec.Containers[0]
		app.Image, app.Args = "localhost/debian:e2e", []string{"-c", counting}
	})
	in, data := "--namespace="+w.ns, make([]byte, 1<<20)
	signalled := func(pod *corev1.Pod, want string) {
		lab.Eventually(t, time.Minute, "the shell counts "+want, func() error {
			if log := c.Run(t, "kubectl", "--", in, "logs", pod.Name); want == "1" && !strings.Contains(log, "counting") {
				return fmt.Errorf("it wrote %q", log)
			}
			return nil
		})
		c.Run(t, "kubectl", "--", in, "exec", pod.Name, "--", "sh", "-c", "kill -USR1 1")
		lab.Eventually(t, 20*time.Second, "the shell counts "+want, func() error {
			got, err := lab.Localcluster(t.Context(), c.Name, "kubectl", "--", in, "exec", pod.Name, "--", "cat", "/n")
			if err == nil && got != want+"\n" {
				err = fmt.Errorf("it is at %q", got)
			}
			return err
		})
	}
	signalled(pod, "1")
	w.deletePod(t, pod)
	next := w.running(t, pod)
	if now := w.restored(t, next); now.Status != corev1.ConditionTrue {
		t.Fatalf("it says %+v", now)
	}
	signalled(next, "2")
	_, _ = rand.Read(data) // it never fails
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	if err := os.WriteFile(there, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Run(t, "kubectl", "--", "cp", there, w.ns+"/"+next.Name+":/tmp/copied")
	if size := c.Run(t, "kubectl", "--", in, "exec", next.Name, "--", "stat", "--format=%s", "/tmp/copied"); size != "1048576\n" {
		t.Errorf("the file in the pod has %q bytes", size)
	}
	c.Run(t, "kubectl", "--", "cp", w.ns+"/"+next.Name+":/tmp/copied", back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, data) {
		t.Errorf("it came back with %d bytes, %v", len(got), err)
	}
	for command, want := range map[string]string{"exit 0": "", "exit 3": "exit code 3", "kill -TERM $$": "exit code 143", "kill -KILL $$": "exit code 137"} {
		_, err := lab.Localcluster(t.Context(), c.Name, "kubectl", "--", in, "exec", next.Name, "--", "sh", "-c", command)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q ends with %v, want %q", command, err, want)
		}
	}
}
