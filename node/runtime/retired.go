package runtime

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/placed"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// clearVerb is the verb of our own by which a retired runtime removes itself.
const clearVerb = "clear"

// clearPatience is how long it waits for that: kubelet may make a new sandbox for a pod that has lost its own.
const clearPatience = 10 * time.Second

// retired answers a call when the operator is gone from the node. Nothing is captured or restored any more, but a capture that was begun is not disturbed.
func (f *front) retired() error {
	operands, values := f.words.operands()
	if len(operands) == 0 {
		return f.pass()
	}
	switch f.words.verb {
	case "create":
		if dir := bundleIn(values); isSandbox(dir) {
			if err := f.node.NoteSandbox(operands[0]); err != nil {
				return err
			}
		}
	case "start":
		return f.start()
	case "kill", "exec":
		if c, err := f.recall(); err == nil && c != nil && engine.InFlight(f.node, c.Pod.UID) {
			if f.words.verb == "exec" {
				return f.exec()
			}
			return f.kill()
		}
	case "delete":
		last, err := f.node.DropSandbox(operands[0])
		if err != nil {
			return err
		}
		if last {
			if err := f.detach(clearVerb, "all"); err != nil {
				return err
			}
		}
		return f.delete()
	}
	return f.pass()
}

// bundleIn is the folder of the bundle that a call names.
func bundleIn(values map[string]string) string {
	for _, name := range []string{"bundle", "b"} {
		if values[name] != "" {
			return values[name]
		}
	}
	return "."
}

// isSandbox tells of a bundle whether it is that of a pod's sandbox.
func isSandbox(dir string) bool {
	spec, _, err := engine.Bundle{Dir: dir}.Spec()
	return err == nil && factsOf(spec.Annotations).sandbox
}

// clear removes what is left on the node when no sandbox of the handlers is there for a while. The container runtime forgets them when it is restarted the
// next time.
func (f *front) clear() error {
	if err := engine.EnterOwnCgroup(); err != nil {
		f.engine(capture.Pod{UID: "retired"}).Log("own cgroup: %v", err)
	}
	time.Sleep(clearPatience)
	lock, err := os.Open(f.node.RetiredFile())
	if err != nil {
		return nil // the operator is back, or it is done
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || f.node.HasSandboxes() || f.hasContainers() || !f.node.IsRetired() {
		return nil
	}
	record, err := placed.Read(f.node.Home())
	if err != nil {
		return err
	}
	if _, err := record.TakeBack(f.node.Root); err != nil {
		return err
	}
	engine.LeaveOwnCgroup()
	_, err = placed.Clear(f.node)
	return err
}

// hasContainers tells whether there are containers of labelled pods.
func (f *front) hasContainers() bool {
	files, err := filepath.Glob(filepath.Join(f.node.Containers(), "*.json"))
	return err != nil || len(files) > 0
}
