package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// restorePatience bounds one restore: a cold start has to follow in the same call, for which kubelet gives two minutes (design R4).
const restorePatience = 90 * time.Second

// RestoreOptions say what is restored into which new container.
type RestoreOptions struct {
	// Container is the record of the new container, which does not exist yet.
	Container *Container
	// Directory is the folder of the capture. Kept is the file in the pod's storage volume that it is brought from; nil where it is there.
	Directory string
	Kept      *capture.KeptFile
	// Compatibility is what this machine is compared with that of the capture by.
	Compatibility compat.Rules
	// Others are the containers of the same pod that are restored as well, whether they are there yet or not.
	Others []string
	// Fallback is that of the decision: whether a container that is not restored is started cold, or not at all, and tried again.
	Fallback capture.Fallback
	// Attempts is how often the restore is begun, at most; 0 is capture.DefaultAttempts.
	Attempts int
	// Again is how many times the container, which has ended each time, has been restored again with this time.
	Again int
	// Own is the name of the pod's own Checkpoint that Directory is the state of; empty for one that was claimed.
	Own string
	// More are words for the OCI runtime, as --console-socket PATH.
	More []string
}

// Restore starts a captured container in the place of a new one, in steps that are undone when one fails: checks, root file system, the
// pod's shared memory and volumes, processes. It writes the container's result as it goes on. What fails is tried again, and then from the state before,
// where the decision has one. After an error the new container is as if nothing had been tried, and can be created.
func (e *Engine) Restore(ctx context.Context, opts RestoreOptions) error {
	ctx, cancel := context.WithTimeout(ctx, restorePatience)
	defer cancel()
	c := opts.Container
	lock, err := lockRestore(e.Node, c.Pod.UID, restorePatience)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := e.stillRefuses(opts); err != nil {
		return err
	}
	if d, err := e.Node.Decision(c.Pod.UID); err == nil { // another container may have gone back since it was read
		opts.Directory, opts.Kept = d.Directory, d.Kept
	}
	r := &restoration{engine: e, RestoreOptions: opts, bundle: Bundle{c.Bundle}, result: capture.Result{
		SchemaVersion: capture.SchemaVersion, Container: c.Name, ContainerID: c.ID, Outcome: capture.Attempted, Started: time.Now().UTC(),
		Again: opts.Again, Own: opts.Own,
	}}
	if err := r.save(); err != nil {
		return err
	}
	failpoint.Hit(failpoint.RestoreBegun)
	place := r.awaitTurn(ctx)
	err = r.attempt(ctx)
	place.release()
	r.result.Total = time.Since(r.result.Started)
	if err == nil {
		if err := r.planHooks(); err != nil {
			e.Log("no hooks are run in container %q: %v", c.Name, err)
		}
		r.result.Outcome = capture.Restored
		if err := r.save(); err != nil { // it runs all the same; the agent takes an attempt that says nothing more for one that was cut off
			e.Log("container %q is restored, and that cannot be written: %v", c.Name, err)
		}
		return r.goOn(ctx)
	}
	e.Log("container %q is not restored: %v", c.Name, err)
	if holdErr := e.endHold(ctx, c.Pod.UID); holdErr != nil {
		e.Log("%v", holdErr) // whoever waits for companions tries again
	}
	r.result.Outcome, r.result.Message, r.result.Errors = capture.RestoreFailed, err.Error(), criuLines(err)
	if follows := (*followsError)(nil); errors.As(err, &follows) {
		r.result.Follows = follows.container
	}
	if mismatch := (*MismatchError)(nil); errors.As(err, &mismatch) {
		r.result.Reason = keys.ColdSecurityContextMismatch
	}
	if mismatch := (*compat.Mismatch)(nil); errors.As(err, &mismatch) {
		r.result.Reason = keys.ColdIncompatible
	}
	if lost := (*lostFileError)(nil); errors.As(err, &lost) {
		r.result.Reason = keys.ColdVolumeStateLost
	}
	return errors.Join(err, r.save())
}

// stillRefuses returns an error when a container that must be restored, or not start, may start cold by now: the agent has changed the decision,
// and gives away what it holds for the pod.
func (e *Engine) stillRefuses(opts RestoreOptions) error {
	if opts.Fallback != capture.Refuse {
		return nil
	}
	decision, err := e.Node.Decision(opts.Container.Pod.UID)
	if err == nil && decision.Fallback != capture.Refuse {
		err = errors.New("the decision has changed: the container may start cold")
	}
	return err
}

// errLost says that the node went down since the state was brought to it, which may have holes now.
var errLost = errors.New("the node went down since the state was brought to it: not all of that may be on its disk")

// followsError says that a container is not restored as another of its pod was not.
type followsError struct{ container string }

func (e *followsError) Error() string {
	return fmt.Sprintf("container %q of the same pod was not restored", e.container)
}

// goOn lets the containers of the pod go on when this was the last of them.
func (r *restoration) goOn(ctx context.Context) error {
	found, err := r.companions()
	if err == nil && len(found.coming) == 0 {
		err = r.engine.endHold(ctx, r.Container.Pod.UID)
	}
	if err != nil { // whoever waits for companions tries again
		r.engine.Log("%v", err)
	}
	return nil
}

type restoration struct {
	RestoreOptions
	engine *Engine
	bundle Bundle
	spec   *specs.Spec
	result capture.Result
	// asked is what CRIU is told of what was asked for.
	asked asked
	// tries is how often the restore from the state has been begun, and took for how long the last one went on.
	tries int
	took  time.Duration
	// quieted says that TCP on the pod's loopback is lost for now.
	quieted bool
	// undos bring back what the steps so far have changed, the last one first.
	undos []func() error
	// keeps end what the undos would need.
	keeps []func() error
}

// save writes the result. That of a failure is on the disk when it returns; others are before anything restored may run (see note), or can be lost.
func (r *restoration) save() error {
	write := capture.NoteJSON
	if r.result.Outcome == capture.RestoreFailed {
		write = capture.WriteJSON
	}
	return write(r.engine.Node.ResultFile(r.Container.Pod.UID, r.Container.Name), r.result)
}

func (r *restoration) run(ctx context.Context) error {
	var err error
	if r.spec, _, err = r.bundle.Spec(); err != nil {
		return err
	}
	record, err := r.check(ctx)
	if err != nil {
		return err
	}
	r.asked = r.engine.restoreOptions(r.Container.Settings, record.Settings, r.Container.Name)
	before := time.Now()
	if err := r.rootfs(ctx); err != nil {
		return err
	}
	if err := r.podFiles(ctx, record); err != nil {
		return err
	}
	if err := r.files(ctx, record); err != nil {
		return err
	}
	r.result.Files = time.Since(before)
	failpoint.Hit(failpoint.RestoreFiles)
	before = time.Now()
	if err := r.process(ctx); err != nil {
		return err
	}
	r.result.Process = time.Since(before)
	failpoint.Hit(failpoint.RestoreRunning)
	for _, keep := range r.keeps {
		if err := keep(); err != nil {
			r.engine.Log("%v", err)
		}
	}
	return nil
}

func (r *restoration) undo() error {
	var all error
	for i := len(r.undos) - 1; i >= 0; i-- {
		all = errors.Join(all, r.undos[i]())
	}
	r.undos, r.keeps, r.quieted = nil, nil, false
	return all
}

func (r *restoration) images() string {
	return filepath.Join(r.Directory, "containers", r.Container.Name, "criu")
}

// check looks at all that can be looked at before anything is changed, once it is on the node.
func (r *restoration) check(ctx context.Context) (*capture.Capture, error) {
	if failed, err := r.failedBefore(); err != nil || failed != "" {
		return nil, errors.Join(err, &followsError{failed})
	}
	if d, err := r.engine.Node.Decision(r.Container.Pod.UID); err == nil && !r.engine.Node.HasStates(d) {
		return nil, errLost
	}
	if err := r.bring(ctx); err != nil {
		return nil, err
	}
	record, err := capture.Read(r.Directory)
	if err != nil {
		return nil, err
	}
	if record.State != capture.Complete {
		return nil, fmt.Errorf("the capture is %s; it may be %s", record.State, capture.Complete)
	}
	facts, err := compat.Read(r.engine.Node.Root)
	if err == nil {
		err = r.Compatibility.Check(facts, record.Facts)
	}
	if err != nil {
		return nil, err
	}
	if err := r.checkImage(record); err != nil {
		return nil, err
	}
	if err := r.checkUse(record); err != nil {
		return nil, err
	}
	if err := r.checkRights(record); err != nil {
		return nil, err
	}
	if err := r.checkGroups(); err != nil {
		return nil, err
	}
	if err := checkGuards(r.images(), r.spec); err != nil {
		return nil, err
	}
	if err := checkSecurity(r.images(), r.spec); err != nil {
		return nil, err
	}
	return record, r.checkMounts()
}

// checkRights compares what the captured container was allowed with what the new one is.
func (r *restoration) checkRights(record *capture.Capture) error {
	now, err := securityOf(r.spec)
	if err != nil {
		return err
	}
	for _, c := range record.Containers {
		if c.Name == r.Container.Name {
			return checkSpecs(c.Security, now)
		}
	}
	return fmt.Errorf("the capture has no container %q", r.Container.Name)
}

// checkImage refuses memory of a program that ran from another image: what it has mapped is not there.
func (r *restoration) checkImage(record *capture.Capture) error {
	for _, c := range record.Containers {
		if c.Name == r.Container.Name && c.Image != r.Container.Image {
			return &MismatchError{Message: fmt.Sprintf("the image of the captured container is %s; that of the new one is %s", c.Image, r.Container.Image)}
		}
	}
	return nil
}

// failedBefore returns the name of a container of the pod whose restore failed: half a pod is not restored. Where each is tried again, those that only
// follow another do not count, or all would wait for each other.
func (r *restoration) failedBefore() (string, error) {
	node, uid := r.engine.Node, r.Container.Pod.UID
	files, err := filepath.Glob(node.ResultFile(uid, "*"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "result-"), ".json")
		result, err := node.Result(uid, name)
		if err != nil || result.Outcome != capture.RestoreFailed || r.Fallback == capture.Refuse && result.Follows != "" {
			continue
		}
		return name, nil
	}
	return "", nil
}

// rootfs brings the captured changes of the root file system.
func (r *restoration) rootfs(ctx context.Context) error {
	archive := filepath.Join(r.Directory, "containers", r.Container.Name, "rootfs.tar")
	if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
		return nil // it had none of its own
	}
	path, err := rootOf(r.bundle.Dir, r.spec)
	if err != nil {
		return err
	}
	root, err := overlayAt(path)
	if err != nil {
		return err
	}
	if err := root.movable(); err != nil {
		return err
	}
	r.undos = append(r.undos, root.empty)
	if err := root.transplant(ctx, archive); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	return nil
}

// podFiles brings what the containers of a pod share, before the first of them: /dev/shm and the emptyDirs.
func (r *restoration) podFiles(ctx context.Context, record *capture.Capture) error {
	done := podFilesNote(r.engine.Node, r.Container.Pod.UID)
	if of, err := os.ReadFile(done); err == nil && string(of) == r.Container.Sandbox {
		return nil
	}
	if record.Shm && r.Container.Shm != "" {
		if err := r.swap(ctx, r.Container.Shm, filepath.Join(r.Directory, shmArchive)); err != nil {
			return fmt.Errorf("/dev/shm: %w", err)
		}
	}
	if len(record.Volumes) > 0 { // they outlive a power cut, and so does that they have to be emptied
		if err := syncFile(r.engine.Node.ResultFile(r.Container.Pod.UID, r.Container.Name)); err != nil {
			return err
		}
	}
	for _, name := range record.Volumes {
		dir, mounted := r.Container.Volumes[name]
		if !mounted {
			return fmt.Errorf("the capture has the emptyDir %q, which the pod has not", name)
		}
		if err := r.swap(ctx, dir, filepath.Join(r.Directory, volumeArchive(name))); err != nil {
			return fmt.Errorf("emptyDir %q: %w", name, err)
		}
	}
	if r.Container.IPC != "" {
		r.undos = append(r.undos, func() error { return emptyIPC(r.Container.IPC) })
	}
	r.undos = append(r.undos, func() error { return os.RemoveAll(done) })
	return os.WriteFile(done, []byte(r.Container.Sandbox), 0o600)
}

// podFilesNote is there when what the containers of a pod share has been brought. It holds the ID of the sandbox for which it was.
func podFilesNote(node capture.Node, podUID string) string {
	return filepath.Join(node.Restores(podUID), "pod-files")
}

func (r *restoration) swap(ctx context.Context, dir, archive string) error {
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	parts, err := subPathsOf(dir)
	if err != nil {
		return err
	}
	shrink, err := makeRoom(dir, info.Size())
	if err != nil {
		return err
	}
	r.undos = append(r.undos, func() error { return errors.Join(undo(dir), mountSubPaths(dir, parts), shrink()) })
	r.keeps = append(r.keeps, func() error { return errors.Join(keep(dir), shrink()) })
	if isInMemory(dir) {
		leave, err := r.charge()
		if err != nil {
			r.engine.Log("what is written to %s is not charged to the pod: %v", dir, err)
		} else {
			defer leave()
		}
	}
	if err := swap(ctx, dir, archive); err != nil {
		return err
	}
	return mountSubPaths(dir, parts)
}

// charge has what is written charged to the pod, until leave is called.
func (r *restoration) charge() (leave func(), err error) {
	group, err := groupOfPod(r.engine.Node, r.Container.Pod.UID)
	if err != nil {
		return nil, err
	}
	back, err := chargeTo(group)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := back(); err != nil {
			r.engine.Log("%v", err)
		}
	}, nil
}

// isInMemory tells whether what is written to a folder takes memory.
func isInMemory(dir string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(dir, &stat) == nil && stat.Type == unix.TMPFS_MAGIC
}

// checkUse returns an error when a volume of the capture is used by a container that runs already: it must not change under it.
func (r *restoration) checkUse(record *capture.Capture) error {
	others, err := containersOf(r.engine.Node, r.Container.Pod.UID)
	if err != nil {
		return err
	}
	for _, other := range others {
		if _, runs := other.pid(); !runs || other.Restored {
			continue
		}
		for _, name := range other.Mounted {
			if slices.Contains(record.Volumes, name) {
				return fmt.Errorf("emptyDir %q is used by container %q, which runs already and is not restored", name, other.Name)
			}
		}
	}
	return nil
}

// lend gives runc and CRIU what they need for a restore and the container has not. The function that is returned takes it away again.
func (r *restoration) lend() (takeBack func() error, err error) {
	groups, err := r.bundle.showOwnGroups(r.spec)
	r.undos = append(r.undos, groups)
	if err != nil {
		return nil, err
	}
	tmp, err := lendTmp(r.bundle.Dir, r.spec)
	r.undos = append(r.undos, tmp)
	return func() error { return errors.Join(groups(), tmp()) }, err
}

// process has CRIU start the captured processes. Limits that would hold it up are lifted for that time.
func (r *restoration) process(ctx context.Context) error {
	work := filepath.Join(r.engine.Node.Restores(r.Container.Pod.UID), "log-"+r.Container.Name)
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	err := errors.Join(adaptImages(r.images(), r.Container.Network, r.Container.Own), adaptGroups(r.images(), r.spec),
		adaptGroupMounts(r.images(), r.spec), dropGuards(r.images(), r.spec), addGuards(r.images(), r.spec), adaptLabels(r.images(), r.spec),
		r.keepMountFlags())
	if err != nil {
		return err
	}
	backToPod, err := r.engine.liftPod(r.Container.Pod.UID)
	if err != nil {
		r.engine.Log("limits of the pod stay: %v", err)
	}
	if backToPod != nil {
		defer backToPod()
	}
	asBefore, err := r.lend()
	if err != nil {
		return err
	}
	limitAgain, err := r.liftContainer()
	if err != nil {
		return err
	}
	oci, err := r.asked.of(r.Container.OCI(), work)
	if err == nil {
		oci, err = r.throughRelay(oci, work)
	}
	if err != nil {
		return err
	}
	if err := r.quiet(); err != nil {
		return err
	}
	words := slices.Concat([]string{"--pid-file", r.Container.PIDFile}, labelWords(r.spec), r.asked.words, r.More)
	err = oci.restore(ctx, r.Container.ID, r.images(), work, r.bundle.Dir, words)
	r.unquiet()
	if r.result.Consumed = err == nil || ranInstructions(filepath.Join(work, criu.RestoreLog)); err != nil {
		if !r.result.Consumed && r.Again == 0 { // CRIU has ended all that was about to run, and what ran before it ended had its own beginning
			err = errors.Join(err, removeFile(r.engine.Node.BegunFile(r.Container.Pod.UID, r.Container.Name)))
		}
		return err
	}
	limitAgain(ctx, oci)
	if err := asBefore(); err != nil {
		r.engine.Log("container %q: %v", r.Container.Name, err)
	}
	return nil
}

// liftContainer takes the container's limits of processor time and memory away for the restore, which needs more of both than the program does. It
// returns what sets them when the program runs.
func (r *restoration) liftContainer() (again func(ctx context.Context, oci OCI), err error) {
	quota, period, limited := quotaOf(r.spec)
	memory := memoryOf(r.spec)
	var words []string
	var backs []func() error
	if limited {
		backs = append(backs, func() error { return r.bundle.setQuota(quota) })
		words = append(words, "--cpu-quota", strconv.FormatInt(quota, 10), "--cpu-period", strconv.FormatUint(period, 10))
		err = errors.Join(err, r.bundle.setQuota(nil))
	}
	if memory != nil {
		backs = append(backs, func() error { return r.bundle.setMemory(memory) })
		words = append(words, "--memory", strconv.FormatInt(*memory.Limit, 10))
		if memory.Swap != nil {
			words = append(words, "--memory-swap", strconv.FormatInt(*memory.Swap, 10))
		}
		err = errors.Join(err, r.bundle.setMemory(nil))
	}
	r.undos = append(r.undos, backs...)
	return func(ctx context.Context, oci OCI) {
		var failed error
		for _, back := range backs {
			failed = errors.Join(failed, back())
		}
		if len(words) > 0 {
			failed = errors.Join(failed, updateLimits(ctx, oci, r.Container.ID, words))
		}
		if failed != nil { // it runs: nothing may be undone any more
			r.engine.Log("container %q runs without its limits: %v", r.Container.Name, failed)
		}
	}, err
}

// updateLimits sets limits of a container that runs. Memory in use above its limit is reclaimed by the kernel, which may take more than one call.
func updateLimits(ctx context.Context, oci OCI, id string, words []string) error {
	words = slices.Concat([]string{"update"}, words, []string{id})
	err := oci.call(ctx, words...)
	for try := 0; err != nil && try < 10 && ctx.Err() == nil; try++ {
		time.Sleep(50 * time.Millisecond)
		err = oci.call(ctx, words...)
	}
	return err
}

// quiet keeps the two ends of a connection inside a container from talking until both are there; a pod that is held is quiet already. Where the
// kernel has no packet filter, what was not sent counts as sent: that is sent again, too, but only when its time-out has passed.
func (r *restoration) quiet() error {
	connected, err := hasConnections(r.images())
	if err != nil || !connected || r.engine.holds(r.Container.Pod.UID) || r.Container.Network == "" {
		return err
	}
	if err := filterLoopback(r.Container.Network, true); err != nil {
		r.engine.Log("loopback cannot be filtered: %v", err)
		return adaptStreams(r.images())
	}
	r.quieted = true
	return nil
}

func (r *restoration) unquiet() {
	if !r.quieted {
		return
	}
	if err := filterLoopback(r.Container.Network, false); err != nil {
		r.engine.Log("loopback stays quiet: %v", err)
	}
}

// ranInstructions tells by CRIU's log of a failed restore whether the processes may have run before it failed.
func ranInstructions(log string) bool {
	return strings.Contains(tailOf(log, 64<<10), "Restore finished successfully")
}

// emptyIPC removes the System V objects of a namespace: a failed restore leaves them behind.
func emptyIPC(namespace string) error {
	return inNamespace(namespace, unix.CLONE_NEWIPC, func() error {
		var all error
		for kind, call := range map[string]uintptr{"shm": unix.SYS_SHMCTL, "msg": unix.SYS_MSGCTL, "sem": unix.SYS_SEMCTL} {
			data, err := os.ReadFile("/proc/sysvipc/" + kind)
			if err != nil {
				all = errors.Join(all, err)
				continue
			}
			for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
				fields := strings.Fields(line)
				if i == 0 || len(fields) < 2 { // the names of the columns
					continue
				}
				id, err := strconv.Atoi(fields[1])
				if err != nil {
					continue
				}
				removal := [3]uintptr{uintptr(id), unix.IPC_RMID, 0}
				if kind == "sem" {
					removal = [3]uintptr{uintptr(id), 0, unix.IPC_RMID}
				}
				if _, _, errno := unix.Syscall(call, removal[0], removal[1], removal[2]); errno != 0 && errno != unix.EINVAL && errno != unix.EIDRM {
					all = errors.Join(all, errno)
				}
			}
		}
		return all
	})
}
