package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// background starts kubectl, and returns what it writes, line by line. It ends with the test.
func background(t *testing.T, c *lab.Cluster, input io.Reader, args ...string) <-chan string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "../../bin/localcluster", append([]string{"--name=" + c.Name, "kubectl", "--"}, args...)...)
	command.Stdin = input
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return linesOf(output, command)
}

// linesOf hands out what a command writes, line by line, until it has ended.
func linesOf(output io.Reader, command *exec.Cmd) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		buffer, rest := make([]byte, 4096), ""
		for {
			n, err := output.Read(buffer)
			parts := strings.Split(rest+string(buffer[:n]), "\n")
			for _, line := range parts[:len(parts)-1] {
				select {
				case lines <- line:
				default: // nobody reads
				}
			}
			if rest = parts[len(parts)-1]; err != nil {
				_ = command.Wait()
				return
			}
		}
	}()
	return lines
}

// awaitLine waits until a line is written that holds a piece of text.
func awaitLine(t *testing.T, lines <-chan string, piece string) string {
	t.Helper()
	for patience := time.After(30 * time.Second); ; {
		select {
		case line, more := <-lines:
			if strings.Contains(line, piece) {
				return line
			}
			if !more {
				t.Fatalf("it ended without a line with %q", piece)
			}
		case <-patience:
			t.Fatalf("no line with %q came", piece)
		}
	}
}

// forward opens a connection to a port of a pod by port-forward.
func forward(t *testing.T, c *lab.Cluster, pod *corev1.Pod, port int) net.Conn {
	t.Helper()
	var local int
	line := awaitLine(t, background(t, c, nil, "--namespace="+pod.Namespace, "port-forward", pod.Name, fmt.Sprintf(":%d", port)), "127.0.0.1")
	if _, err := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d", &local); err != nil {
		t.Fatalf("port-forward says %q", line)
	}
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintln(connection, "hello"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 6)
	if _, err := io.ReadFull(connection, answer); err != nil || string(answer) != "hello\n" {
		t.Fatalf("the pod answers %q, %v", answer, err)
	}
	return connection
}

// Whatever somebody does with a container when its pod is deleted neither breaks the capture nor comes back; what an exec session left behind
// before is one of the container's processes, and does.
func TestWhatGoesOnAtTheInstantOfTheCapture(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		app := &template.Spec.Containers[0]
		app.Args = append(app.Args, "-connections=:8081")
		app.ReadinessProbe = &corev1.Probe{
			ProbeHandler:   corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/count", Port: intstr.FromInt32(8080)}},
			TimeoutSeconds: 5, PeriodSeconds: 1,
		}
		app.LivenessProbe = &corev1.Probe{ // one is always in flight
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "sleep", "probe"}}},
			PeriodSeconds: 1, TimeoutSeconds: 600,
		}
	})
	before := waitForCount(t, c, pod, 10)
	in := "--namespace=" + pod.Namespace
	c.Run(t, "kubectl", "--", in, "exec", pod.Name, "--", "/testapp", "leave", "left-behind")
	background(t, c, nil, in, "exec", pod.Name, "--", "/testapp", "sleep", "session")
	awaitLine(t, background(t, c, nil, in, "logs", "-f", pod.Name), "count")
	connection := forward(t, c, pod, 8081)
	lab.Eventually(t, time.Minute, "all of it goes on", func() error {
		text := c.Run(t, "kubectl", "--", in, "exec", pod.Name, "--", "/testapp", "processes")
		for _, name := range []string{"left-behind", "session", "probe"} {
			if !strings.Contains(text, "sleep "+name) {
				return fmt.Errorf("there are\n%s", text)
			}
		}
		return nil
	})
	w.deletePod(t, pod)
	if _, err := connection.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of the port-forward goes on")
	}
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	now, err := ask(t.Context(), c, next, "open", nil)
	if err != nil || now != "0" {
		t.Errorf("the restored process has %s connections, %v", now, err)
	}
	text := c.Run(t, "kubectl", "--", in, "exec", next.Name, "--", "/testapp", "processes")
	has(t, text, "sleep left-behind")
	if strings.Contains(text, "sleep session") {
		t.Errorf("the exec session came back:\n%s", text)
	}
	w.answersKubectl(t, next)
}

// answersKubectl checks that kubectl does with a restored pod what it does with any other.
func (w *workload) answersKubectl(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	in := "--namespace=" + pod.Namespace
	awaitLine(t, background(t, w.c, nil, in, "logs", "-f", pod.Name), "count")
	awaitLine(t, background(t, w.c, nil, in, "attach", pod.Name), "count")
	if got := w.c.Run(t, "kubectl", "--", in, "exec", pod.Name, "--", "/testapp", "count", "-up-to=2"); got != "1\n2\n" {
		t.Errorf("exec wrote %q", got)
	}
	awaitLine(t, background(t, w.c, strings.NewReader("to and fro\n"), in, "exec", "-i", pod.Name, "--", "/testapp", "lines"), "line 1: to and fro")
	forward(t, w.c, pod, 8081)
	lab.Eventually(t, 30*time.Second, "the restored pod is ready", func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err == nil && (len(now.Status.ContainerStatuses) == 0 || !now.Status.ContainerStatuses[0].Ready || now.Status.ContainerStatuses[0].RestartCount > 0) {
			err = fmt.Errorf("its containers are %+v", now.Status.ContainerStatuses)
		}
		return err
	})
}

func TestInputGoesOn(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args, template.Spec.Containers[0].Stdin = []string{"lines"}, true
	})
	for n, text := range []string{"one", "two", "three"} {
		if n > 0 {
			w.deletePod(t, pod)
			pod = w.running(t, pod)
			if now := w.restored(t, pod); now.Status != corev1.ConditionTrue {
				t.Fatalf("it says %+v", now)
			}
		}
		input, write := io.Pipe() // which stays open: at its end kubectl would not wait for the answer
		lines := background(t, c, input, "--namespace="+w.ns, "attach", "-i", pod.Name)
		if _, err := io.WriteString(write, text+"\n"); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, lines, fmt.Sprintf("line %d: %s", n+1, text))
		_ = write.Close()
	}
}

// cannotBeCaptured has testapp hold what CRIU cannot dump, and write into a folder of its node how it ends.
func cannotBeCaptured(template *corev1.PodTemplateSpec, out string) {
	kind := corev1.HostPathDirectoryOrCreate
	app := &template.Spec.Containers[0]
	app.Args = []string{"serve", "-undumpable", "-end-log=/out/log"}
	app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "out", MountPath: "/out"})
	template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{
		Name: "out", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: out, Type: &kind}},
	})
}

// After a failed capture the pod ends as it would have without us: preStop hook first, then the stop signal, in the time that there is.
func TestAPodThatCannotBeCapturedEndsAsItWould(t *testing.T) {
	for name, test := range map[string]struct {
		hook  *corev1.LifecycleHandler
		grace int64
		want  string
	}{
		"a command": {
			&corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "append", "/out/log", "hook"}}}, 60,
			"hook\nterm began\nterm ended\n",
		},
		"a request": {
			&corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/append?path=/out/log&text=hook", Port: intstr.FromInt32(8080)}},
			60, "hook\nterm began\nterm ended\n",
		},
		"a command that hangs": {&corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "sleep", "hook"}}}, 8, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			var out string
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				out = "/var/lib/out-" + strings.ReplaceAll(name, " ", "-")
				cannotBeCaptured(template, out)
				template.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: test.hook}
			})
			waitForCount(t, c, pod, 5)
			if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &test.grace}); err != nil {
				t.Fatal(err)
			}
			w.awaitGone(t, pod) // long before the hook would have ended
			if got := c.OnNode(t, pod.Spec.NodeName, "cat "+out+"/log 2>/dev/null || true"); got != test.want {
				t.Errorf("it left %q, want %q", got, test.want)
			}
			failed := w.checkpoint(t, pod, "has failed", is(v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.ReasonDumpFailed))
			text := fmt.Sprintf("%+v", failed.Status.Conditions)
			has(t, text, "Error (criu/")
			has(t, text, "handles its own page faults") // the advice
			has(t, failed.Status.LogTail, "userfaultfd")
		})
	}
}

// An exec session that has the other end of a pipe, or a lock of a file, is ended before the dump: the program reads the pipe's end, gets the lock that
// it waited for, and keeps the one that it shared.
func TestWhatAnExecSessionSharesWithTheProgram(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, nil)
	before := waitForCount(t, c, pod, 5)
	in := "--namespace=" + pod.Namespace
	background(t, c, nil, in, "exec", pod.Name, "--", "/testapp", "feed", "/proc/1/fd/"+say(t, c, pod, "pipe"))
	for _, file := range []string{"/scratch/shared", "/scratch/wanted"} {
		awaitLine(t, background(t, c, nil, in, "exec", pod.Name, "--", "/testapp", "lock", file), "locked")
	}
	say(t, c, pod, "lock", "path=/scratch/shared", "shared=1")
	say(t, c, pod, "lock", "path=/scratch/wanted")
	told := func(pod *corev1.Pod, pipe, locks string) {
		t.Helper()
		lab.Eventually(t, 30*time.Second, "the program tells of its pipe and its locks", func() error {
			gotPipe, pipeErr := ask(t.Context(), c, pod, "piped", nil)
			gotLocks, lockErr := ask(t.Context(), c, pod, "locked", nil)
			if gotPipe != pipe || gotLocks != locks {
				return fmt.Errorf("it says %q and %q: %w", gotPipe, gotLocks, errors.Join(pipeErr, lockErr))
			}
			return nil
		})
	}
	told(pod, `read "hello"`, "shared ")
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	told(next, `read "hello", then its end`, "shared alone ")
	say(t, c, next, "lock", "path=/scratch/shared")
	time.Sleep(time.Second)
	told(next, `read "hello", then its end`, "shared alone ") // it keeps the shared lock, for which the new one waits
}
