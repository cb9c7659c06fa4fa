package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
)

// dumpInTries dumps, and again after a moment when something was in transit that passes.
func (a *attempt) dumpInTries(ctx context.Context) (capture.Reason, error) {
	reason, err := a.dump(ctx)
	for try := 1; inTransit(err) && try < transitTries && ctx.Err() == nil; try++ {
		a.engine.Log("try %d: %v", try, err)
		if reason, err = capture.ReasonFreezeFailed, a.goOnFor(ctx, transitPause); err == nil {
			reason, err = a.dump(ctx)
		}
	}
	return reason, err
}

// dump writes everything while nothing of the members runs, and lets them go on when they do not go.
func (a *attempt) dump(ctx context.Context) (capture.Reason, error) {
	if reason, err := a.checkSpace(); err != nil {
		return reason, err
	}
	if err := a.clearStrangers(ctx); err != nil {
		return capture.ReasonFreezeFailed, err
	}
	if network := a.members[0].Network; network != "" && a.asks == nil {
		cut, err := cutConnections(network, severance{keepOutside: a.record.Settings.TCPEstablished, captured: a.sockets})
		if err != nil {
			return capture.ReasonDumpFailed, fmt.Errorf("cut connections to what is not captured: %w", err)
		}
		a.engine.Log("cut %d connections", cut)
	}
	if err := lift(a.limits); err != nil {
		a.engine.Log("limits stay: %v", err)
	}
	before := time.Now()
	if err := a.all(func(m member) error { return a.dumpContainer(ctx, m) }); err != nil {
		return capture.ReasonDumpFailed, err
	}
	failpoint.Hit(failpoint.CaptureDumped)
	for _, m := range a.members {
		a.recordContainer(m)
	}
	if err := a.carry(); err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.record.Timings.Dump = time.Since(before)
	before = time.Now()
	if err := a.copyFiles(ctx); err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.record.Timings.Files = time.Since(before)
	for _, m := range a.members {
		if frozen, err := m.group.frozen(); err != nil || !frozen {
			return capture.ReasonFreezeFailed, errors.Join(fmt.Errorf("container %q was not held until the end of the copy", m.Name), err)
		}
	}
	if a.asks != nil {
		return a.goOn(ctx)
	}
	return capture.ReasonFilesFailed, a.recordDump()
}

// sockets are the inodes of the sockets that the members hold.
func (a *attempt) sockets() map[uint32]bool {
	found := map[uint32]bool{}
	for _, m := range a.members {
		pids, err := m.group.processes()
		if err != nil {
			a.engine.Log("sockets of container %q: %v", m.Name, err)
		}
		for _, pid := range pids {
			process{pid: pid}.sockets(found)
		}
	}
	return found
}

// dumpContainer has CRIU write a container, beside others of the pod. CRIU thaws it while it holds its tasks itself, and the freezer must hold them again
// after.
func (a *attempt) dumpContainer(ctx context.Context, m member) error {
	images, work := filepath.Join(a.dir, "containers", m.Name, "criu"), filepath.Join(a.dir, "log", m.Name)
	if err := errors.Join(os.MkdirAll(images, 0o700), os.MkdirAll(work, 0o700)); err != nil {
		return err
	}
	if err := a.callCRIU(ctx, m, images, work); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.record.Failure = &capture.Failure{Errors: criuLines(err), LogTail: tailOf(filepath.Join(work, criu.DumpLog), 4096)}
		return fmt.Errorf("container %q: %w", m.Name, err)
	}
	if err := m.group.awaitFrozen(endPatience); err != nil {
		return fmt.Errorf("container %q went on after its dump: %w", m.Name, err)
	}
	return nil
}

// recordContainer adds a dumped container to the record.
func (a *attempt) recordContainer(m member) {
	security, err := m.security()
	if err != nil { // it cannot be restored without, which is found out by then; the processes end in any case
		a.engine.Log("container %q: what it was allowed is not known: %v", m.Name, err)
	}
	a.record.Containers = append(a.record.Containers, capture.Container{
		Name: m.Name, ID: m.ID, Image: m.Image, SpecDigest: m.SpecDigest, Security: security,
		MemoryBytes: dumpedMemory(filepath.Join(a.dir, "containers", m.Name, "criu")),
	})
}

// dumpedMemory is how much memory lies in the images of a dump, in bytes; 0 when that cannot be told.
func dumpedMemory(images string) (bytes int64) {
	files, _ := filepath.Glob(filepath.Join(images, "pages-*.img"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// callCRIU has CRIU dump a frozen container, with what it needs to be told, and makes its images complete.
func (a *attempt) callCRIU(ctx context.Context, m member, images, work string) error {
	options := a.engine.dumpOptions(m.Settings, m.Name)
	watches, err := watchOptions(m)
	if err != nil {
		return fmt.Errorf("watched files: %w", err)
	}
	options.lines = append(options.lines, watches...)
	oci, err := options.of(m.OCI(), work)
	if err != nil {
		return err
	}
	stopped, err := m.group.letSeize()
	if err == nil {
		err = oci.checkpoint(ctx, m.ID, images, work, options.words)
	}
	if err = errors.Join(err, stopAgain(stopped)); err != nil {
		return err
	}
	if err := a.relink(m, images); err != nil {
		return err
	}
	return errors.Join(markStopped(images, stopped), nameCalls(images, m.group))
}

// takeBack removes what a dump that is void has left in the file systems of the containers.
func (a *attempt) takeBack() {
	if a.dir != "" {
		a.engine.unlink(a.dir)
	}
	a.links = nil
}
