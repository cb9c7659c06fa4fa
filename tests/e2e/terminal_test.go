package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// openTerminal makes a pseudo terminal of a size.
func openTerminal(t *testing.T, rows, columns uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	return master, slave
}

// attach runs kubectl attach -it on a terminal of a size, and returns that and what is written to it.
func attach(t *testing.T, c *lab.Cluster, pod *corev1.Pod, rows, columns uint16) (terminal *os.File, lines <-chan string) {
	t.Helper()
	terminal, slave := openTerminal(t, rows, columns)
	defer slave.Close()
	words := []string{"--name=" + c.Name, "kubectl", "--", "--namespace=" + pod.Namespace, "attach", "-it", pod.Name}
	command := exec.CommandContext(t.Context(), "../../bin/localcluster", words...)
	command.Stdin, command.Stdout, command.Stderr = slave, slave, slave
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return terminal, linesOf(terminal, command)
}

// A terminal has the size that it had, and whoever attaches anew goes on where the former session, which ends, was.
func TestATerminalGoesOn(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		app := &template.Spec.Containers[0]
		app.Args, app.Stdin, app.TTY = []string{"serve", "-lines"}, true, true
	})
	before := waitForCount(t, c, pod, 5)
	terminal, lines := attach(t, c, pod, 40, 100)
	hasSize(t, c, pod, 40, 100)
	says(t, terminal, lines, "one", "line 1: one")
	w.deletePod(t, pod)
	awaitEnd(t, lines)
	next := w.running(t, pod)
	before = w.goesOn(t, next, before, nil)
	hasSize(t, c, next, 40, 100)
	terminal, lines = attach(t, c, next, 50, 120)
	says(t, terminal, lines, "two", "line 2: two")
	hasSize(t, c, next, 50, 120)
	w.deletePod(t, next)
	awaitEnd(t, lines)
	last := w.running(t, next)
	w.goesOn(t, last, before, nil)
	hasSize(t, c, last, 50, 120)
	terminal, lines = attach(t, c, last, 50, 120)
	says(t, terminal, lines, "three", "line 3: three")
}

// says writes a line to a terminal and waits for another.
func says(t *testing.T, terminal *os.File, lines <-chan string, text, want string) {
	t.Helper()
	if _, err := terminal.WriteString(text + "\n"); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, lines, want)
}

func hasSize(t *testing.T, c *lab.Cluster, pod *corev1.Pod, rows, columns int) {
	t.Helper()
	want := fmt.Sprintf("%d rows, %d columns, output is a terminal: true", rows, columns)
	lab.Eventually(t, 20*time.Second, "its terminal has "+want, func() error {
		if got, err := ask(t.Context(), c, pod, "terminal", nil); err != nil || got != want {
			return fmt.Errorf("it has %q: %w", got, err)
		}
		return nil
	})
}

// awaitEnd waits until a command has ended.
func awaitEnd(t *testing.T, lines <-chan string) {
	t.Helper()
	for patience := time.After(30 * time.Second); ; {
		select {
		case _, more := <-lines:
			if !more {
				return
			}
		case <-patience:
			t.Fatal("the session goes on")
		}
	}
}
