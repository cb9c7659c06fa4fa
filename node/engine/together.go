package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// togetherPatience is for how long a restored container is held while the others of its pod are not restored (design R5).
const togetherPatience = time.Minute

// companions are the containers that were captured with the one that is restored, as far as the new pod restores them, too.
type companions struct {
	// coming are those of which nothing is known yet, and restored those that are.
	coming, restored []string
}

func (r *restoration) companions() (companions, error) {
	var found companions
	for _, name := range r.Others {
		result, err := r.engine.Node.Result(r.Container.Pod.UID, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			found.coming = append(found.coming, name)
		case err != nil:
			return found, err
		case r.comesAgain(result):
			found.coming = append(found.coming, name)
		case result.Outcome == capture.Restored:
			found.restored = append(found.restored, name)
		}
	}
	return found, nil
}

// comesAgain tells of a container that was not restored whether it will be tried again.
func (r *restoration) comesAgain(result *capture.Result) bool {
	return r.Fallback == capture.Refuse && result.Outcome == capture.RestoreFailed && !result.Consumed
}

// throughRelay prepares the call of the runtime that restores. A container of several is held until the last of them is there, what they send
// each other is lost until then and sent again, and what they share is made once.
func (r *restoration) throughRelay(oci OCI, work string) (OCI, error) {
	node := r.engine.Node
	way := relaying{
		folder: filepath.Join(node.Root, "run/checkpoint/bin"), log: filepath.Join(work, relayLogName),
		begun: node.BegunFile(r.Container.Pod.UID, r.Container.Name), ownGroups: hasOwnGroups(r.spec),
	}
	var err error
	if way.files, _, err = standIns(r.images(), r.spec, groupsHere()); err != nil {
		return oci, err
	}
	if len(r.Others) == 0 {
		return oci.through(way)
	}
	found, err := r.companions()
	if err != nil {
		return oci, err
	}
	if len(found.restored) > 0 {
		if err := r.shareIPC(found.restored); err != nil {
			return oci, err
		}
		way.library = filepath.Join(node.Home(), "lib/shared-ipc.so")
	}
	if way.hold = !slices.Contains(r.Container.Settings.Eager, r.Container.Name); way.hold {
		if err := r.engine.beginHold(r.Container); err != nil {
			return oci, err
		}
	}
	return oci.through(way)
}

// shareIPC changes the images of a container whose companions have brought the System V objects already: message queues and semaphores are not
// made again, and shared memory is (see node/criu), with the content that it has. Objects that have been used since cannot be shared.
func (r *restoration) shareIPC(restored []string) error {
	moved, err := r.engine.movedOn(r.Container.Pod.UID, restored)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(r.images(), "ipcns-*.img"))
	if err != nil {
		return err
	}
	for _, file := range files {
		info, err := os.Stat(file)
		isVariables := strings.HasPrefix(filepath.Base(file), "ipcns-var-")
		if err != nil || isVariables || info.Size() <= magicSize {
			if err != nil {
				return err
			}
			continue
		}
		if moved != "" {
			return fmt.Errorf("its System V objects have moved on: %s", moved)
		}
		if strings.HasPrefix(filepath.Base(file), "ipcns-shm-") {
			continue
		}
		if err := emptyImage(file); err != nil {
			return err
		}
	}
	return nil
}

// movedOn says why restored containers of a pod may have run since their restore; nothing when all of them are held.
func (e *Engine) movedOn(podUID string, restored []string) (string, error) {
	said, err := os.ReadFile(filepath.Join(e.Node.Restores(podUID), capture.AloneFile))
	if err == nil {
		return strings.TrimSpace(string(said)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	containers, err := containersOf(e.Node, podUID)
	for _, c := range containers {
		if slices.Contains(restored, c.Name) && !c.frozen() {
			return fmt.Sprintf("container %q runs already", c.Name), nil
		}
	}
	return "", err
}

// emptyImage leaves the head of an image of CRIU, and none of its entries.
func emptyImage(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	head := make([]byte, magicSize)
	if _, err := file.Read(head); err != nil {
		return err
	}
	return replaceFile(path, head)
}

// replaceFile gives a file another content. Others to which it is linked keep theirs.
func replaceFile(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (e *Engine) heldFile(podUID string) string {
	return filepath.Join(e.Node.Restores(podUID), capture.HeldFile)
}

// beginHold notes that containers of a pod are held, and silences its loopback.
func (e *Engine) beginHold(c *Container) error {
	if e.holds(c.Pod.UID) {
		return nil
	}
	if err := os.WriteFile(e.heldFile(c.Pod.UID), nil, 0o600); err != nil {
		return err
	}
	if c.Network == "" {
		return nil
	}
	if err := e.quietLoopback(c.Network, true); err != nil { // a connection inside the pod may break; all else comes back
		e.Log("loopback stays open: %v", err)
	}
	return nil
}

// endHold lets the held containers of a pod go on.
func (e *Engine) endHold(ctx context.Context, podUID string) error {
	if !e.holds(podUID) {
		return nil
	}
	containers, all := containersOf(e.Node, podUID)
	for _, c := range containers {
		if c.Restored {
			all = errors.Join(all, e.resume(ctx, c))
		}
	}
	for _, c := range containers {
		if c.Network != "" {
			all = errors.Join(all, e.quietLoopback(c.Network, false))
			break
		}
	}
	if all != nil {
		return all
	}
	return os.Remove(e.heldFile(podUID))
}

// resume thaws a container, if it is frozen.
func (e *Engine) resume(ctx context.Context, c *Container) error {
	if !c.frozen() {
		return nil
	}
	return c.OCI().Resume(context.WithoutCancel(ctx), c.ID)
}

// frozen tells whether the freezer holds a container. One that has ended is not held.
func (c *Container) frozen() bool {
	pid, alive := c.pid()
	if !alive {
		return false
	}
	group, err := cgroupOf(pid)
	if err != nil {
		return false
	}
	frozen, err := group.frozen()
	return err == nil && frozen
}

// AwaitCompanions returns when no container of the pod is held any more. When the others do not come in time, it lets them go on.
func (e *Engine) AwaitCompanions(ctx context.Context, podUID string) error {
	for ctx.Err() == nil && e.holds(podUID) {
		if e.overdue(podUID) {
			return e.endOverdue(ctx, podUID)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return ctx.Err()
}

// holds tells whether containers of the pod are held.
func (e *Engine) holds(podUID string) bool {
	_, err := os.Stat(e.heldFile(podUID))
	return err == nil
}

// overdue tells whether containers of the pod have been held for longer than they may.
func (e *Engine) overdue(podUID string) bool {
	info, err := os.Stat(e.heldFile(podUID))
	return err == nil && time.Since(info.ModTime()) > togetherPatience
}

// endOverdue lets containers go on that have been held for too long, and says so.
func (e *Engine) endOverdue(ctx context.Context, podUID string) error {
	lock, err := lockRestore(e.Node, podUID, restorePatience)
	if err != nil {
		return err
	}
	defer lock.release()
	if !e.overdue(podUID) {
		return nil
	}
	said := fmt.Sprintf("restored containers waited %s for the others of their pod, and went on without them", togetherPatience)
	e.Log("%s", said)
	file := filepath.Join(e.Node.Restores(podUID), capture.AloneFile)
	return errors.Join(os.WriteFile(file, []byte(said+"\n"), 0o600), e.endHold(ctx, podUID))
}

// lockRestore waits for whoever restores a container of the pod.
func lockRestore(node capture.Node, podUID string, patience time.Duration) (*podLock, error) {
	return lockFile(node.RestoreLock(podUID), patience)
}

// carry takes the containers of a half restored pod along that have not been restored: their state is as it was captured before, and would be lost
// with the pod.
func (a *attempt) carry() error {
	decision, err := a.engine.Node.Decision(a.podUID)
	if errors.Is(err, fs.ErrNotExist) || err == nil && decision.Action != capture.Restore {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(a.members, func(m member) bool { return m.Restored }) {
		return nil
	}
	former, err := capture.Read(decision.Directory)
	if errors.Is(err, fs.ErrNotExist) { // all are restored, and it is gone
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range former.Containers {
		result, err := a.engine.Node.Result(a.podUID, c.Name)
		isToCome := errors.Is(err, fs.ErrNotExist) || err == nil && decision.Refuses(result) && !result.Consumed
		if !decision.Restores(c.Name) || !isToCome {
			continue
		}
		a.engine.Log("container %q had not been restored yet: its former state is taken along", c.Name)
		folder := filepath.Join("containers", c.Name)
		if err := linkTree(filepath.Join(decision.Directory, folder), filepath.Join(a.dir, folder)); err != nil {
			return err
		}
		a.record.Containers = append(a.record.Containers, c)
	}
	return nil
}

// linkTree makes a tree of hard links to the files of another.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if err := os.Link(path, target); !errors.Is(err, unix.EXDEV) {
			return err
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	content, err := os.Open(from)
	if err != nil {
		return err
	}
	defer content.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.ReadFrom(content)
	return errors.Join(err, file.Close())
}
