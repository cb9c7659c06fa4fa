package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
)

// recordDump records that everything is there. Held as they are, the processes run no other instruction before they are ended.
func (a *attempt) recordDump() error {
	a.record.State = capture.Dumped
	a.record.Timings.Frozen = time.Since(a.started)
	size, err := sizeOf(a.dir)
	if err != nil {
		return err
	}
	a.record.SizeBytes = size
	return a.record.Write(a.dir)
}

// killedFile lies in a folder whose processes have got their KILL: from then on they cannot run another instruction, held or not.
const killedFile = "killed"

// endProcesses kills what the freezer holds, and thaws it then.
func (e *Engine) endProcesses(ctx context.Context, dir string, members []member) {
	ctx = context.WithoutCancel(ctx)
	for _, m := range members {
		if m.Settings.TCPEstablished && m.Network != "" { // the peers must not learn of the end
			if err := silenceOutside(m.Network); err != nil {
				e.Log("%v", err)
			}
			break
		}
	}
	for _, m := range members {
		if err := m.group.kill(); err != nil {
			e.Log("container %q: %v", m.Name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, killedFile), nil, 0o600); err != nil {
		e.Log("%v", err)
	}
	for _, m := range members {
		if err := m.OCI().Kill(ctx, m.ID, "KILL"); err != nil { // which thaws it
			e.Log("container %q: %v", m.Name, err)
		}
		if frozen, err := m.group.frozen(); err == nil && frozen {
			if err := m.OCI().Resume(ctx, m.ID); err != nil {
				e.Log("container %q: %v", m.Name, err)
			}
		}
	}
}

// end ends the processes of a dumped pod, gives the capture its final name and puts it on the disk. A storage volume gets it before that: as long as the pod
// is there, the volume is mounted.
func (a *attempt) end(ctx context.Context) error {
	if a.record.Settings.StorageVolume != nil {
		a.engine.keepInVolume(ctx, a.dir, &a.record)
		if !a.holds(a.dir) {
			return a.fail(ctx, capture.ReasonFreezeFailed, errors.New("the pod was not held until its state was in its storage volume"))
		}
	}
	failpoint.Hit(failpoint.CaptureRecorded)
	a.engine.endProcesses(ctx, a.dir, a.members)
	failpoint.Hit(failpoint.CaptureEnded)
	if err := putBack(a.limits); err != nil {
		a.engine.Log("limits: %v", err)
	}
	err := a.engine.complete(a.dir, &a.record)
	a.closeHooks()
	for _, m := range a.members {
		if err := m.awaitEnd(endPatience); err != nil {
			a.engine.Log("%v", err)
		}
	}
	return errors.Join(err, a.payAll(ctx)) // nobody is left to get anything: what was owed is dropped
}

// complete gives a dumped capture its final name, and then waits for the disk to have it: the agent need not wait for that.
func (e *Engine) complete(dir string, record *capture.Capture) error {
	for _, name := range []string{limitsFile, killedFile, linksFile, volumeTriesFile} {
		_ = os.Remove(filepath.Join(dir, name))
	}
	_ = capture.Unreserve(dir)
	record.State, record.Timings.Total = capture.Complete, time.Since(record.Started)
	if err := record.Write(dir); err != nil {
		return err
	}
	e.Log("complete after %s: frozen %s, dump %s, files %s", record.Timings.Total, record.Timings.Frozen, record.Timings.Dump, record.Timings.Files)
	final, err := publish(dir, record.Sequence)
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.CapturePublished)
	e.awaitBucket(final)
	return e.sync(final)
}

// awaitBucket waits while a live agent uploads a capture, within bounds: durable soonest wins (design C9), and writing the state to two places at
// once makes both late.
func (e *Engine) awaitBucket(dir string) {
	for end := time.Now().Add(bucketPatience); time.Now().Before(end) && e.Node.AgentLives(); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, capture.UploadedFile)); err == nil {
			return
		}
		if _, err := os.Stat(dir); err != nil { // it was not wanted
			return
		}
	}
}

// sync has a complete capture on the disk when it returns, and says so in its folder. When the agent has dropped it meanwhile there is nothing
// to do.
func (e *Engine) sync(dir string) error {
	before := time.Now()
	err := syncTree(dir)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, capture.SyncedFile), nil, 0o600)
	}
	if err == nil {
		err = syncFile(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write capture %s to the disk: %w", dir, err)
	}
	e.Log("on the disk after another %s", time.Since(before))
	return nil
}

// fail thaws the pod, records why there is no capture, and lets the pod end as if none had been tried.
func (a *attempt) fail(ctx context.Context, reason capture.Reason, cause error) error {
	ctx = context.WithoutCancel(ctx)
	a.engine.Log("failed (%s): %v", reason, cause)
	a.takeBack()
	err := errors.Join(putBack(a.limits), a.thaw(ctx)) // nothing may run without its limits
	if a.dir == "" {
		if beginErr := a.begin(""); beginErr != nil {
			a.unquiesce(ctx)
			return errors.Join(err, a.stop(ctx), beginErr)
		}
	}
	failure := capture.Failure{Reason: reason, Message: cause.Error()}
	if a.record.Failure != nil {
		failure.Errors, failure.LogTail = a.record.Failure.Errors, a.record.Failure.LogTail
	}
	a.record.Timings.Frozen = time.Since(a.started)
	err = errors.Join(err, a.engine.Node.Hint(a.podUID, uncapturedHint, cause.Error()), a.giveUp(ctx, failure))
	return errors.Join(err, a.stop(ctx))
}

// giveUp records a failure, has the hooks run that stand behind a capture, and gives the folder its final name. Whoever finds it cut off does what is left.
func (a *attempt) giveUp(ctx context.Context, failure capture.Failure) error {
	var err error
	if a.hasHooks() {
		err = a.engine.fill(a.dir, &a.record, failure)
		a.unquiesce(ctx)
	}
	err = errors.Join(err, a.engine.giveUp(a.dir, &a.record, failure))
	a.closeHooks()
	return err
}

// giveUp records a failure in the place of the state, and gives the folder its final name.
func (e *Engine) giveUp(dir string, record *capture.Capture, failure capture.Failure) error {
	if err := e.fill(dir, record, failure); err != nil {
		return err
	}
	_, err := publish(dir, record.Sequence)
	return err
}

// fill makes the folder of a capture that of a failed one.
func (e *Engine) fill(dir string, record *capture.Capture, failure capture.Failure) error {
	record.State, record.Failure = capture.Failed, &failure
	record.Containers, record.Volumes, record.Shm, record.SizeBytes = nil, nil, false, 0
	record.Kept, record.NotKept = nil, ""
	record.Timings.Total = time.Since(record.Started)
	if err := record.Write(dir); err != nil {
		return err
	}
	for _, what := range []string{"containers", "pod", "volumes", limitsFile, capture.ReservedFile} {
		if err := os.RemoveAll(filepath.Join(dir, what)); err != nil {
			return err
		}
	}
	return nil
}
