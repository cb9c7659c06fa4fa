package runtime

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/transparent-checkpoint/operator/node/engine"
)

// kill turns a stop signal for a captured container into a capture, which goes on after the call has returned: whoever called holds a lock.
func (f *front) kill() error {
	c, err := f.recall()
	if err != nil || c == nil || !c.Selected() {
		return f.pass()
	}
	operands, values := f.words.operands()
	signal := "SIGTERM"
	if len(operands) > 1 {
		signal = operands[1]
	}
	_, all := values["all"]
	_, short := values["a"]
	switch {
	case signal == "0":
		return f.pass()
	case (engine.Signal{Name: signal}).IsKill():
		return f.killForGood(c, signal)
	case all || short: // to all processes: nobody asks a program to end that way
		return f.pass()
	}
	if err := f.engine(c.Pod).Note(c, signal); err != nil {
		f.engine(c.Pod).Log("note %s: %v", signal, err)
		return f.pass()
	}
	if err := f.detach("capture", c.Pod.UID); err != nil {
		f.engine(c.Pod).Log("start the capture: %v", err)
		return f.pass() // the signal must not be lost
	}
	return nil
}

// killForGood holds a KILL back while a capture is under way or was cut off, and else passes it on. Once noted it is paid by a process of its own,
// which waits for the one at work: that may be past the point where it looks.
func (f *front) killForGood(c *engine.Container, signal string) error {
	uid := c.Pod.UID
	if !engine.InFlight(f.node, uid) && !f.cutOff(c) {
		return f.pass()
	}
	if err := f.engine(c.Pod).Note(c, signal); err != nil {
		f.engine(c.Pod).Log("note %s: %v", signal, err)
		return f.pass() // a pod that nobody can end is worse than a state that is lost
	}
	return f.detach("capture", uid)
}

// cutOff tells whether a capture of the pod is unfinished, or has not begun though its signal came.
func (f *front) cutOff(c *engine.Container) bool {
	partials, err := filepath.Glob(filepath.Join(f.node.Captures(c.Pod.UID), "*.partial"))
	return err == nil && len(partials) > 0 || f.engine(c.Pod).Owes(c)
}

// detach starts one of our own verbs in a session of its own, without our inputs and outputs, and does not wait.
func (f *front) detach(verb, podUID string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	command := exec.Command(f.self, verb, podUID)
	command.Stdin, command.Stdout, command.Stderr = null, null, null
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	return command.Process.Release()
}
