package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// The longest wait between two attempts to publish, and how long a published capture stays on the node, where a restore finds it without a download.
const (
	longestWait   = 10 * time.Second
	cacheTime     = 10 * time.Minute
	cacheInterval = 15 * time.Second
	settleAfter   = time.Second
	// withdrawalTime bounds one attempt to delete from a bucket.
	withdrawalTime = time.Minute
)

// publication is what the agent remembers of a capture's folder between two looks. All of it can be forgotten.
type publication struct {
	seen      capture.State      // published so far
	busy      bool               // its upload or withdrawal goes on
	stop      context.CancelFunc // ends an upload
	goesOn    bool               // the pod, after this capture
	namespace string             // of the pod
	began     time.Time          // when it was frozen
	told      bool               // that it is captured
	toldKept  bool               // that it is not in its storage volume
	failures  int                // to publish, in a row
	refused   int                // by the bucket, in a row
	stuck     bool               // until a person does something
	notBefore time.Time
	unlocked  time.Time // since when nobody works on a folder that is not done
	memo      *memo     // which the full disk did not take
}

// memo is the agent's own file in the folder of a capture.
type memo struct {
	// CheckpointUID is that of the object under which it is published, or was first: its storage name. When that is gone, so is the reason to keep the folder.
	CheckpointUID string `json:"checkpointUID"`
	// Location and Folder are where its objects lie, from when the first one may.
	Location string    `json:"location,omitempty"`
	Folder   string    `json:"folder,omitempty"`
	Uploaded time.Time `json:"uploaded,omitzero"`
}

const memoFile = "agent.json"

func readMemo(dir string) (m memo, err error) {
	data, err := os.ReadFile(filepath.Join(dir, memoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if len(data) > 0 { // a power cut may have taken its content, which can be found out again
		err = errors.Join(err, json.Unmarshal(data, &m))
	}
	return m, err
}

// memoOf returns the memo of a folder, and note writes it. A full disk must not keep a capture from being uploaded, by which the disk gets room: then the
// agent remembers the memo, and as long as it is not killed nothing is different.
func (a *Agent) memoOf(dir string, p *publication) (memo, error) {
	if p.memo != nil {
		return *p.memo, nil
	}
	return readMemo(dir)
}

func (a *Agent) note(ctx context.Context, dir string, m memo, p *publication) error {
	err := capture.NoteJSON(filepath.Join(dir, memoFile), m)
	if !image.IsDiskTrouble(err) {
		p.memo = nil
		return err
	}
	if p.memo == nil {
		ctrl.LoggerFrom(ctx).Error(err, "the agent goes on without its memo in the folder of the capture")
	}
	p.memo = &m
	return nil
}

// publishAll looks at the captures of the node for as long as the context lives.
func (a *Agent) publishAll(ctx context.Context) error {
	slots, budgetDue := newSlots(a.UploadsAtOnce), time.Time{}
	return every(ctx, scanInterval, func() {
		dirs, err := filepath.Glob(filepath.Join(a.Node.CapturesRoot(), "*", "[0-9]*"))
		if err != nil {
			return
		}
		for _, dir := range a.inOrder(dirs) {
			a.look(ctx, dir, slots)
		}
		if now := a.Now(); !now.Before(budgetDue) {
			a.keepBudget(ctx)
			a.measureQueues(ctx)
			budgetDue = now.Add(cacheInterval)
		}
		a.settleOwed(ctx)
		a.settleLifted(ctx)
	})
}

// look does what is to do next about one folder, unless it was tried a moment ago.
func (a *Agent) look(ctx context.Context, dir string, slots *slots) {
	a.mu.Lock()
	p := a.work[dir]
	if p == nil {
		p = &publication{}
		a.work[dir] = p
	}
	busy := p.busy || a.Now().Before(p.notBefore)
	if p.busy && p.stop != nil && (isDiscarded(dir) || !p.goesOn && a.hasLater(dir)) {
		p.stop() // what is to become of the folder is done when the upload has ended
	}
	a.mu.Unlock()
	if busy {
		return
	}
	log := ctrl.LoggerFrom(ctx).WithValues("capture", dir)
	err := a.publish(ctrl.LoggerInto(ctx, log), dir, p, slots)
	if errors.Is(err, fs.ErrNotExist) { // it was renamed or removed under our eyes
		err = nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		p.failures = 0
		return
	}
	p.failures++
	publishFailures.Inc()
	wait := min(longestWait, scanInterval<<min(p.failures, 10))
	p.notBefore = a.Now().Add(wait)
	if record, readErr := capture.Read(dir); readErr == nil {
		log = log.WithValues(aboutCapture(record)...)
	}
	log.Error(err, "publish", "attempt", p.failures, "wait", wait.String())
}

// publish brings the Checkpoint of a capture's folder up to date.
func (a *Agent) publish(ctx context.Context, dir string, p *publication, slots *slots) error {
	record, err := capture.Read(dir)
	if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(dir, ".partial") {
		_, err := a.settleWhenCutOff(ctx, dir, p)
		return err
	}
	if err != nil {
		return err
	}
	ctx = ctrl.LoggerInto(ctx, ctrl.LoggerFrom(ctx).WithValues(aboutCapture(record)...))
	p.goesOn = !record.Trigger.IsTermination()
	if err := a.judgeEnd(ctx, record); err != nil { // first: soon the Job controller looks at the pod
		return err
	}
	if record.State == capture.Complete && isUploadedFrom(dir) && !a.Node.IsWhole(dir, record) {
		return a.remove(dir) // the bucket has it; of the disk that is not known since the node went down
	}
	isDone := record.State == capture.Failed || capture.IsSynced(dir) || record.Kept != nil
	if !isDone || strings.HasSuffix(dir, ".partial") {
		if cutOff, err := a.settleWhenCutOff(ctx, dir, p); err != nil || cutOff {
			return err
		}
		if p.seen == record.State && strings.HasSuffix(dir, ".partial") {
			return nil
		}
	}
	if record.State == capture.Complete && record.Kept == nil && !a.Node.IsWhole(dir, record) {
		return nil // the node went down before the disk had it: whoever holds the lock is about to say so, and empties the folder
	}
	if strings.HasSuffix(dir, ".partial") && (record.State == capture.Complete || record.State == capture.Failed) {
		return nil // the runtime is about to give it its name
	}
	if text, err := os.ReadFile(filepath.Join(dir, capture.DiscardedFile)); err == nil && !strings.HasSuffix(dir, ".partial") {
		return a.discard(ctx, dir, record, strings.TrimSpace(string(text)), p)
	}
	if !record.Trigger.IsLive() && a.hasLater(dir) { // of a pod that went on, and goes now
		return a.replaced(ctx, dir, record, p)
	}
	wanted, why, err := a.isWanted(ctx, record)
	if err != nil || why == "" && !wanted {
		return err
	}
	if !wanted {
		if strings.HasSuffix(dir, ".partial") {
			return nil
		}
		return a.discard(ctx, dir, record, why, p)
	}
	checkpoint, source, err := a.object(ctx, dir, record, p)
	if err != nil {
		return err
	}
	if checkpoint == nil {
		if strings.HasSuffix(dir, ".partial") { // it is the runtime's, as long as it is not done
			p.seen = record.State
			return nil
		}
		return a.withdraw(ctx, dir, p)
	}
	failpoint.Hit(failpoint.PublishCreated)
	return a.advance(ctx, dir, record, checkpoint, source, p, slots)
}

// isUploadedFrom tells whether the capture in a folder is in the bucket.
func isUploadedFrom(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, capture.UploadedFile))
	return err == nil
}

// isDiscarded tells whether the runtime has said that a capture is not wanted.
func isDiscarded(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, capture.DiscardedFile))
	return err == nil
}

// uploadsOther tells whether another last capture of the same pod is being sent: both would be the same Checkpoint. The later one is the state of the pod,
// and waits until the earlier one has been stopped.
func (a *Agent) uploadsOther(dir string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for other, p := range a.work {
		if p.busy && !p.goesOn && other != dir && filepath.Dir(other) == filepath.Dir(dir) {
			return true
		}
	}
	for other, h := range a.ahead {
		if other != strings.TrimSuffix(dir, ".partial") && filepath.Dir(other) == filepath.Dir(dir) && !h.hasEnded() {
			return true
		}
	}
	return false
}

// hasLater tells whether the pod was captured again later, completely.
func (a *Agent) hasLater(dir string) bool {
	later := a.localCapture(filepath.Base(filepath.Dir(dir)))
	return number(filepath.Base(dir)) >= 0 && later != "" && number(filepath.Base(later)) > number(filepath.Base(dir))
}

// settleOwed has the runtime capture those pods whose stop signal was noted and whose capture has not begun, since whoever was to begin it
// was killed.
func (a *Agent) settleOwed(ctx context.Context) {
	root := filepath.Join(a.Node.Root, "run/checkpoint/signals")
	for _, podUID := range namesIn(root) {
		if info, err := os.Stat(filepath.Join(root, podUID)); err != nil || a.Now().Sub(info.ModTime()) < 2*settleAfter {
			continue
		}
		if isLocked(filepath.Join(a.Node.Captures(podUID), "lock")) {
			continue
		}
		if err := a.Settle(ctx, podUID); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "settle", a.aboutPod(podUID)...)
		}
	}
}

// settleLifted has the runtime put back the limits of pods whose restore was killed.
func (a *Agent) settleLifted(ctx context.Context) {
	files, err := filepath.Glob(filepath.Join(a.Node.RestoresRoot(), "*", capture.LiftedFile))
	if err != nil {
		return
	}
	for _, file := range files {
		podUID := filepath.Base(filepath.Dir(file))
		if info, err := os.Stat(file); err != nil || a.Now().Sub(info.ModTime()) < 2*settleAfter || isLocked(a.Node.RestoreLock(podUID)) {
			continue
		}
		if err := a.Settle(ctx, podUID); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "put limits back", a.aboutPod(podUID)...)
		}
	}
}

// isWanted tells whether the state of a pod is to be published: the pod goes, or was disrupted, or is gone. While it stays nobody knows yet.
// A pod that ended by itself needs no successor of its state, and why says so.
func (a *Agent) isWanted(ctx context.Context, record *capture.Capture) (wanted bool, why string, err error) {
	if record.Trigger.IsLive() { // a Checkpoint asks for it
		return true, "", nil
	}
	pod := &corev1.Pod{}
	err = a.Client.Get(ctx, client.ObjectKey{Namespace: record.Pod.Namespace, Name: record.Pod.Name}, pod)
	switch {
	case apierrors.IsNotFound(err) || err == nil && string(pod.UID) != record.Pod.UID:
		return true, "", nil
	case err != nil:
		return false, "", err
	case !pod.DeletionTimestamp.IsZero() || podspec.IsDisrupted(pod) || record.State == capture.Failed || podspec.IsGivenUp(pod):
		return true, "", nil
	case podspec.HasEnded(pod):
		return false, "the pod ended by itself", nil
	}
	return false, "", nil
}

// object returns the Checkpoint of a capture, and makes that of a pod's last one when the manager has not; nil when it was deleted, so that the state is not
// wanted.
func (a *Agent) object(ctx context.Context, dir string, record *capture.Capture, p *publication) (*v1alpha1.Checkpoint, v1alpha1.CheckpointSource, error) {
	m, err := a.memoOf(dir, p)
	if err != nil {
		return nil, v1alpha1.CheckpointSource{}, err
	}
	n, known, err := a.noteOf(record.Pod)
	if err != nil {
		return nil, n.Source, err
	}
	checkpoint := &v1alpha1.Checkpoint{}
	err = a.Client.Get(ctx, keyOf(record), checkpoint)
	if apierrors.IsNotFound(err) && m.CheckpointUID == "" && !record.Trigger.IsLive() {
		policy, policyErr := a.policyOf(ctx, record.Pod.Namespace, n.Source.Labels)
		if policyErr != nil {
			return nil, n.Source, policyErr
		}
		checkpoint = n.Checkpoint.DeepCopy()
		checkpoint.Spec.Trigger = a.triggerOf(ctx, record.Pod)
		lineage.Outlive(checkpoint, v1alpha1.RetentionOf(policy))
		err = a.Client.Create(ctx, checkpoint)
		if apierrors.IsAlreadyExists(err) {
			err = a.Client.Get(ctx, client.ObjectKeyFromObject(n.Checkpoint), checkpoint)
		} else if err == nil && !known {
			a.Recorder.Eventf(checkpoint, nil, corev1.EventTypeWarning, "OwnerUnknown", "Publish",
				"the agent never saw pod %s while it lived: no other pod is restored from this Checkpoint by itself; one that "+
					"names it by %s is", record.Pod.Name, keys.RestoreFrom)
		}
	}
	switch {
	case apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, n.Source, nil
	case err != nil:
		return nil, n.Source, err
	case m.CheckpointUID == "" && !record.Trigger.IsLive() && isOfAnother(checkpoint, record): // also if it is just being deleted
		return nil, n.Source, fmt.Errorf("the Checkpoint %s has the state of an earlier capture, after which the pod went on; it is deleted first", checkpoint.Name)
	case !checkpoint.DeletionTimestamp.IsZero() || m.CheckpointUID != "" && m.CheckpointUID != checkpoint.StorageName():
		return nil, n.Source, nil
	case record.Trigger.IsLive() && record.Trigger.Asks.UID != string(checkpoint.UID):
		return nil, n.Source, nil
	case !record.Trigger.IsLive() && checkpoint.Spec.Trigger.IsLive():
		return nil, n.Source, fmt.Errorf("there is a Checkpoint %s made by hand, which has the name that the pod's last one needs; delete it", checkpoint.Name)
	}
	if m.CheckpointUID == "" && !strings.HasSuffix(dir, ".partial") {
		m.CheckpointUID = checkpoint.StorageName()
		err = a.note(ctx, dir, m, p)
	}
	return checkpoint, n.Source, err
}

// isOfAnother tells whether the state that a Checkpoint has, which cannot change, is that of another capture of the same pod.
func isOfAnother(checkpoint *v1alpha1.Checkpoint, record *capture.Capture) bool {
	has := checkpoint.Status
	return (has.ManifestDigest != "" || has.Volume != nil) && (has.CaptureTime == nil || !has.CaptureTime.Time.Equal(cutOf(record).Time))
}

// cutOf is the moment after which no instruction of a captured program ran, as exact as the API is.
func cutOf(record *capture.Capture) metav1.Time {
	return metav1.NewTime(record.Started.Add(record.Timings.Frozen).Truncate(time.Second))
}

// advance writes what there is to say by now, and goes on with the next step.
func (a *Agent) advance(ctx context.Context, dir string, record *capture.Capture, checkpoint *v1alpha1.Checkpoint, source v1alpha1.CheckpointSource,
	p *publication, slots *slots,
) error {
	if known := checkpoint.Status.Source; known != nil { // it cannot change, and says where the state is looked for
		source = *known
	}
	r := dumping(source, checkpoint.Status.LocationName)
	switch record.State {
	case capture.Dumping, capture.Dumped:
		if err := a.apply(ctx, checkpoint, r); err != nil {
			return err
		}
		// Not while a pod goes on, nor where its own volume is to have the state.
		if record.State == capture.Dumping && p.seen == "" && record.Trigger.IsTermination() && record.Settings.StorageVolume == nil {
			a.beginAhead(ctx, dir, checkpoint, source, slots)
		}
		p.seen = record.State
		return nil
	case capture.Failed:
		if isUploaded(checkpoint) { // before the node went down, and verified: what was lost is the copy here
			ctrl.LoggerFrom(ctx).Info("what was captured is in the bucket, and no longer whole on the node")
			return a.retire(dir)
		}
		r.captured.Reason, r.captured.Message = string(record.Failure.Reason), explainCapture(record.Failure)+otherFailedHooks(record)
		r.uploaded.Reason, r.uploaded.Message = v1alpha1.ReasonCaptureFailed, "there is nothing to upload"
		r.frozen, r.logTail = record.Timings.Frozen, v1alpha1.LogTail(record.Failure.LogTail)
		r.hooks = record.Hooks
		if err := a.apply(ctx, checkpoint, r); err != nil {
			return err
		}
		a.countCapture(string(record.Failure.Reason))
		ctrl.LoggerFrom(ctx).Info("not captured", "reason", string(record.Failure.Reason), "message", r.captured.Message)
		a.tellHooks(checkpoint, record)
		a.event(checkpoint, record, corev1.EventTypeWarning, string(record.Failure.Reason), "not captured: "+r.captured.Message)
		return a.retire(dir)
	}
	return a.advanceComplete(ctx, dir, record, checkpoint, r, p, slots)
}

// dumping is the report of a state that is being written. Some of it may be in a location already.
func dumping(source v1alpha1.CheckpointSource, location string) report {
	r := report{source: source, captured: condition(v1alpha1.CheckpointCaptured), uploaded: condition(v1alpha1.CheckpointUploaded), location: location}
	r.captured.Reason, r.captured.Message = v1alpha1.StateDumping, "the pod is frozen and is being written to the node's disk"
	r.uploaded.Reason = v1alpha1.StatePending
	return r
}

func (a *Agent) advanceComplete(ctx context.Context, dir string, record *capture.Capture, checkpoint *v1alpha1.Checkpoint, r report,
	p *publication, slots *slots,
) error {
	m, err := a.memoOf(dir, p)
	if err != nil {
		return err
	}
	if !m.Uploaded.IsZero() {
		claim := checkpoint.Status.Claim
		isOld := a.Now().Sub(m.Uploaded) > cacheTime && (!a.servesRestarts(dir, record) || !a.isThere(ctx, record.Pod))
		if claim != nil && claim.Phase == v1alpha1.ClaimConsumed || isOld || a.nearlyFull(a.Node.CapturesRoot()) {
			return a.retire(dir)
		}
		p.notBefore = a.Now().Add(cacheInterval)
		return nil
	}
	if isUploaded(checkpoint) && record.Kept == nil { // by an agent that was killed before it noted that, or whose note the power cut has taken
		m.Uploaded = a.Now()
		return a.noteUploaded(ctx, dir, m, p)
	}
	r.machine = record.Facts
	digests := a.digestsOf(record.Pod)
	for _, c := range record.Containers {
		entry := v1alpha1.CheckpointContainer{Name: c.Name, Image: c.Image, ImageDigest: digests[c.Name]}
		if c.MemoryBytes > 0 {
			entry.MemoryBytes = &c.MemoryBytes
		}
		r.containers = append(r.containers, entry)
	}
	cutTime := cutOf(record)
	r.captureTime, r.sizeBytes, r.frozen, r.hooks = &cutTime, record.SizeBytes, record.Timings.Frozen, record.Hooks
	if record.Trigger.IsTermination() && a.uploadsOther(dir) {
		return nil
	}
	if record.Kept != nil {
		return a.publishKept(ctx, dir, record, checkpoint, r, p)
	}
	a.tellNotKept(checkpoint, record, p)
	r.notKept = record.NotKept
	leave := slots.take(!record.Trigger.IsTermination())
	if leave == nil { // later; until then the state is on the node
		if p.seen == capture.Complete && p.told {
			return nil
		}
		a.refresh(dir, &r)
		r.uploaded.Message = "it waits for its turn"
		err := a.apply(ctx, checkpoint, r)
		if err == nil {
			p.seen = capture.Complete
			a.tellCaptured(ctx, checkpoint, record, r, p)
		}
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	a.mu.Lock()
	p.busy, p.stop, p.seen = true, stop, capture.Complete
	a.mu.Unlock()
	go func() {
		defer leave()
		defer stop()
		err := a.upload(ctx, dir, checkpoint, record, r, p)
		a.mu.Lock()
		defer a.mu.Unlock()
		p.busy = false
		p.stuck = err != nil && (needsAPerson(err) || errors.As(err, new(noLocation)))
		if err != nil && ctx.Err() == nil {
			a.putOff(p)
			ctrl.LoggerFrom(ctx).Error(err, "upload", "attempt", p.refused)
		}
	}()
	return nil
}

// putOff has a folder wait for its bucket, longer with each attempt in vain. It is called with the lock held.
func (a *Agent) putOff(p *publication) {
	p.refused++
	p.notBefore = a.Now().Add(min(longestWait, time.Second<<min(p.refused-1, 6)))
}

// refresh brings the condition Captured of a report up to date: the disk may have caught up meanwhile.
func (a *Agent) refresh(dir string, r *report) {
	r.captured.Status, r.captured.Reason = metav1.ConditionFalse, v1alpha1.StateDumping
	r.captured.Message = fmt.Sprintf("written, on its way to the disk of node %s", a.NodeName)
	if capture.IsSynced(dir) {
		r.captured.Status, r.captured.Reason = metav1.ConditionTrue, v1alpha1.StateCompleted
		r.captured.Message = fmt.Sprintf("safe on node %s", a.NodeName)
	}
	r.captured.Message = r.where(r.captured.Message) + failedHooks(r.hooks)
}

// tellCaptured tells once by an event, and counts, that a state is captured, when a report has said so.
func (a *Agent) tellCaptured(ctx context.Context, checkpoint *v1alpha1.Checkpoint, record *capture.Capture, r report, p *publication) {
	if p.told || r.captured.Status != metav1.ConditionTrue {
		return
	}
	p.told = true
	a.learn(record)
	a.countCaptured(record)
	ctrl.LoggerFrom(ctx).Info("captured", "bytes", record.SizeBytes, "frozen", record.Timings.Frozen.String(), "duration", record.Timings.Total.String())
	a.tellHooks(checkpoint, record)
	a.event(checkpoint, record, corev1.EventTypeNormal, "Captured", fmt.Sprintf("captured %s, frozen for %s; safe on node %s",
		v1alpha1.ReadableSize(record.SizeBytes), v1alpha1.ReadableDuration(record.Timings.Frozen).Duration, a.NodeName))
}

func condition(kind string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse}
}

// event tells of a capture on its Checkpoint, and on its pod as long as there is one.
func (a *Agent) event(checkpoint *v1alpha1.Checkpoint, record *capture.Capture, kind, reason, text string) {
	text = v1alpha1.EventNote(text)
	a.Recorder.Eventf(checkpoint, nil, kind, reason, "Capture", "%s", text)
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID = record.Pod.Namespace, record.Pod.Name, uid(record.Pod.UID)
	pod.APIVersion, pod.Kind = "v1", "Pod"
	a.Recorder.Eventf(pod, checkpoint, kind, reason, "Capture", "%s", text)
}

// discard drops a capture that is not wanted, and says so in the Checkpoint if it was published.
func (a *Agent) discard(ctx context.Context, dir string, record *capture.Capture, why string, p *publication) error {
	checkpoint := &v1alpha1.Checkpoint{}
	err := a.Client.Get(ctx, keyOf(record), checkpoint)
	isNext := !record.Trigger.IsLive() && (isOfAnother(checkpoint, record) || !isUploaded(checkpoint) && a.hasLater(dir)) // who says what there is to say
	if err == nil && checkpoint.Status.Source != nil && !isNext {
		r := report{source: *checkpoint.Status.Source, captured: condition(v1alpha1.CheckpointCaptured), uploaded: condition(v1alpha1.CheckpointUploaded)}
		r.captured.Reason, r.captured.Message = v1alpha1.StateDiscarded, why
		r.uploaded.Reason, r.location = v1alpha1.ReasonCaptureFailed, checkpoint.Status.LocationName
		r.manifest = checkpoint.Status.ManifestDigest // if it is there already it stays until the Checkpoint goes
		err = a.apply(ctx, checkpoint, r)
	}
	if apierrors.IsNotFound(err) { // nobody else would delete what it may have sent
		return a.withdraw(ctx, dir, p)
	}
	if err != nil {
		return err
	}
	return a.withdrawn(dir)
}

// replaced drops a capture of which there is a later one. What it has sent is that one's as well, unless their Checkpoint is gone.
func (a *Agent) replaced(ctx context.Context, dir string, record *capture.Capture, p *publication) error {
	err := a.Client.Get(ctx, keyOf(record), &v1alpha1.Checkpoint{})
	if apierrors.IsNotFound(err) {
		return a.withdraw(ctx, dir, p)
	}
	if err != nil {
		return err
	}
	return a.remove(dir)
}

// withdraw drops a capture whose Checkpoint is gone, and what of it lies in the bucket: whoever deleted the Checkpoint may not have seen all of that. It
// does not wait for the bucket. As long as the folder is there with its memo, it is tried again.
func (a *Agent) withdraw(ctx context.Context, dir string, p *publication) error {
	m, err := a.memoOf(dir, p)
	if err != nil {
		return err
	}
	if m.Folder == "" {
		return a.withdrawn(dir)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.withdrawals == withdrawalsAtOnce {
		return nil // its turn comes
	}
	a.withdrawals++
	ctx, stop := context.WithTimeout(ctx, withdrawalTime)
	p.busy, p.stop = true, nil
	go func() {
		defer stop()
		err := a.deleteUploaded(ctx, m)
		if err == nil {
			err = a.withdrawn(dir)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		p.busy = false
		a.withdrawals--
		if err != nil {
			a.putOff(p)
			ctrl.LoggerFrom(ctx).Error(err, "withdraw", "attempt", p.refused)
		}
	}()
	return nil
}

func (a *Agent) withdrawn(dir string) error {
	a.countCapture(v1alpha1.StateDiscarded)
	return a.remove(dir)
}

// deleteUploaded deletes what lies in the bucket of a capture. Without its location nobody can reach it, and in one that takes nothing any more it stays.
func (a *Agent) deleteUploaded(ctx context.Context, m memo) error {
	bucket, err := a.writableBucket(ctx, m.Location)
	if err == nil {
		err = bucket.folder(m.Folder).Delete(ctx, m.CheckpointUID)
	}
	if errors.Is(err, storage.ErrNoKey) { // the manifest is gone, and the packs go with the next deletion in the folder that can read all others
		ctrl.LoggerFrom(ctx).Error(err, "packs are left behind", "location", m.Location, "folder", m.Folder)
		return nil
	}
	if err == nil || errors.As(err, new(noLocation)) || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("delete what was uploaded: %w", err)
}

// remove removes the folder of a capture, in one step.
func (a *Agent) remove(dir string) error {
	gone := filepath.Join(filepath.Dir(dir), "removed-"+filepath.Base(dir))
	if err := os.RemoveAll(gone); err != nil { // an agent that was killed left it, and the runtime has used the number again
		return err
	}
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	a.forgetFolder(dir)
	return os.RemoveAll(gone)
}

// forgetFolder drops what is remembered of a folder that is gone.
func (a *Agent) forgetFolder(dir string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.work, dir)
	delete(a.ahead, dir)
}

// settleWhenCutOff has the runtime finish a folder that is not done and on which nobody works, and tells whether that is so.
func (a *Agent) settleWhenCutOff(ctx context.Context, dir string, p *publication) (bool, error) {
	if isLocked(filepath.Join(filepath.Dir(dir), "lock")) {
		p.unlocked = time.Time{}
		return false, nil
	}
	if p.unlocked.IsZero() {
		p.unlocked = a.Now()
	}
	if a.Now().Sub(p.unlocked) < settleAfter {
		return true, nil
	}
	ctrl.LoggerFrom(ctx).Info("a capture was cut off; the runtime settles it")
	p.seen, p.unlocked = "", time.Time{}
	return true, a.Settle(ctx, filepath.Base(filepath.Dir(dir)))
}
