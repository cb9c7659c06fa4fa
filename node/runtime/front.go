package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// front is one call of the runtime.
type front struct {
	node   capture.Node
	config capture.RuntimeConfig
	self   string
	args   []string
	words  words
}

// Main answers one call: home is the folder that holds its configuration, program the name by which it was called, which says for which handler, and args
// are the words behind that. It does not return when the call is passed on. The error has been told to whoever called, in the log that the command line
// names.
func Main(home, program string, args []string) error {
	f := &front{node: capture.Node{Root: "/", HomeDir: home}, args: args, words: parse(args)}
	if err := f.run(program); err != nil {
		f.tell(err)
		return err
	}
	return nil
}

func (f *front) run(program string) error {
	config, err := capture.ReadRuntimeConfig(f.node.Home())
	if err != nil {
		return fmt.Errorf("configuration of the checkpoint runtime: %w", err)
	}
	if f.config, err = config.For(program); err != nil {
		return err
	}
	if f.self, err = os.Executable(); err != nil {
		return err
	}
	if f.words.verb == clearVerb {
		return f.clear()
	}
	if f.node.IsRetired() && slices.Contains([]string{"create", "start", "kill", "exec", "delete"}, f.words.verb) {
		return f.retired()
	}
	switch f.words.verb {
	case "create":
		return f.create()
	case "start":
		return f.start()
	case "kill":
		return f.kill()
	case "exec":
		return f.exec()
	case "delete":
		return f.delete()
	case "capture", "settle", "release", "capture-live": // our own verbs, which take the UID of a pod
		return f.detached(f.words.verb)
	}
	return f.pass()
}

// pass becomes the OCI runtime, with the words as they came.
func (f *front) pass() error {
	oci := f.oci()
	err := syscall.Exec(oci.Path, append([]string{oci.Path}, f.args...), oci.Environment())
	return fmt.Errorf("exec %s: %w", oci.Path, err)
}

func (f *front) oci() engine.OCI {
	return engine.OCI{Path: f.config.Runtime, CRIUDirectory: f.config.CRIUDirectory, Global: f.words.global}
}

// recall returns the record of the container that the call is about; nil for one of a pod without the label.
func (f *front) recall() (*engine.Container, error) {
	operands, _ := f.words.operands()
	if len(operands) == 0 {
		return nil, nil
	}
	c, err := engine.Recall(f.node, operands[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return c, err
}

// start has nothing to do for a container that was restored.
func (f *front) start() error {
	if c, err := f.recall(); err == nil && c != nil && c.Restored {
		return nil
	}
	return f.pass()
}

// delete forgets the container.
func (f *front) delete() error {
	if c, err := f.recall(); err == nil && c != nil {
		if err := engine.Forget(f.node, c.ID); err != nil {
			return err
		}
	}
	return f.pass()
}

// detached does the work that a call has left to a process of its own.
func (f *front) detached(verb string) error {
	operands, _ := f.words.operands()
	if verb == "capture-live" && len(operands) != 3 {
		return fmt.Errorf("%s takes the UID of a pod, and name and UID of a Checkpoint", verb)
	}
	if verb != "capture-live" && len(operands) != 1 {
		return fmt.Errorf("%s takes the UID of a pod", verb)
	}
	e := f.engine(engine.PodOf(f.node, operands[0]))
	if err := engine.EnterOwnCgroup(); err != nil {
		e.Log("own cgroup: %v", err)
	}
	live := func(ctx context.Context, podUID string) error {
		return e.CaptureLive(ctx, podUID, capture.Asks{Checkpoint: operands[1], UID: operands[2]})
	}
	work := map[string]func(context.Context, string) error{
		"capture": e.Capture, "settle": e.Settle, "release": e.AfterRestore, "capture-live": live,
	}[verb]
	err := work(context.Background(), operands[0])
	if err != nil {
		e.Log("%s: %v", verb, err)
	}
	return err
}

// tell writes an error where containerd's shim and CRI-O look for it.
func (f *front) tell(err error) {
	fmt.Fprintln(os.Stderr, err)
	if f.words.log == "" {
		return
	}
	file, openErr := os.OpenFile(f.words.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if openErr != nil {
		return
	}
	defer file.Close()
	line := err.Error()
	if f.words.logFormat == "json" {
		entry, jsonErr := json.Marshal(map[string]string{"level": "error", "msg": line, "time": time.Now().UTC().Format(time.RFC3339)})
		if jsonErr != nil {
			return
		}
		line = string(entry)
	}
	_, _ = fmt.Fprintln(file, line)
}
