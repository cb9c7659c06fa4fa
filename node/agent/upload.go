package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/secrets"
	"github.com/transparent-checkpoint/operator/internal/stored"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// progressInterval is how often a transfer under way is reported.
const progressInterval = 2 * time.Second

// noLocation is an error that says that there is no bucket to upload to, with the reason of conditions. A person must act.
type noLocation struct{ reason, message string }

func (e noLocation) Error() string { return e.message }

// upload brings a complete capture into the bucket. What failed is reported in the Checkpoint, and tried again by whoever calls.
func (a *Agent) upload(ctx context.Context, dir string, checkpoint *v1alpha1.Checkpoint, record *capture.Capture, r report,
	p *publication,
) error {
	began := a.Now()
	ahead := a.endAhead(dir)
	location, bucket, err := a.uploadBucket(ctx, checkpoint)
	if err == nil {
		err = a.mayUpload(ctx, checkpoint, record.SizeBytes)
	}
	if err != nil {
		a.refresh(dir, &r)
		r.location = checkpoint.Status.LocationName // where an earlier attempt has begun
		return errors.Join(err, a.uploadFailed(ctx, checkpoint, record, r, err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	folder := folderOf(checkpoint.Namespace, &r.source, bucket)
	m := memo{CheckpointUID: checkpoint.StorageName(), Location: location, Folder: folder.Name}
	if err := a.note(ctx, dir, m, p); err != nil {
		return err
	}
	failpoint.Hit(failpoint.UploadNoted)
	r.location = location
	r.uploaded.Reason, r.uploaded.Message = v1alpha1.StateUploading, "on its way to "+location
	say := func() error {
		a.refresh(dir, &r)
		err := a.apply(ctx, checkpoint, r)
		if err == nil {
			a.tellCaptured(ctx, checkpoint, record, r, p)
		}
		return err
	}
	if err := say(); err != nil {
		return err
	}
	progress, stop := a.progress(func(done, total int64) {
		r.uploadedBytes, r.uploaded.Message = &done, partOf(done, total)
		err := say()
		if apierrors.IsNotFound(err) || err == nil && !checkpoint.DeletionTimestamp.IsZero() { // of another error the next report may be free
			cancel()
		}
	})
	bases, err := a.bases(ctx, checkpoint, &r.source, location)
	var summary image.Summary
	if err == nil {
		err = describe(ctx, dir, checkpoint, r)
	}
	if err == nil {
		options := image.UploadOptions{
			Bases: bases, State: filepath.Join(dir, uploadState), Progress: progress, Background: !record.Trigger.IsTermination(),
			Trouble: func(err error) {
				ctrl.LoggerFrom(ctx).Error(err, "the disk of the node has trouble, and the upload goes on")
			},
		}
		summary, err = send(ctx, folder, checkpoint.StorageName(), dir, options)
	}
	stop()
	r.uploadedBytes = nil
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		a.refresh(dir, &r)
		return errors.Join(err, a.uploadFailed(ctx, checkpoint, record, r, err))
	}
	failpoint.Hit(failpoint.UploadDone)
	took := a.Now().Sub(began)
	summary.Sent += ahead
	countUpload(summary.Sent, record.SizeBytes, took)
	r.stored(summary, took)
	if err := a.apply(ctx, checkpoint, r); err != nil {
		return err
	}
	a.tellCaptured(ctx, checkpoint, record, r, p)
	ctrl.LoggerFrom(ctx).Info("uploaded", "location", location, "bytes", summary.Sent, "duration", took.String(), "digest", summary.ManifestDigest)
	a.event(checkpoint, record, corev1.EventTypeNormal, "Uploaded", r.uploaded.Message)
	m.Uploaded = a.Now()
	return a.noteUploaded(ctx, dir, m, p)
}

// noteUploaded notes in the folder of a capture that the bucket has it, or the volume of its pod.
func (a *Agent) noteUploaded(ctx context.Context, dir string, m memo, p *publication) error {
	err := errors.Join(a.note(ctx, dir, m, p), os.WriteFile(filepath.Join(dir, capture.UploadedFile), nil, 0o600))
	if p.memo != nil || image.IsDiskTrouble(err) { // it is safe, and the disk needs the room
		return a.remove(dir)
	}
	return err
}

// send uploads a complete capture. When it is not complete any more at the end, what was sent is nothing to go on from.
func send(ctx context.Context, folder *image.Folder, name, dir string, options image.UploadOptions) (image.Summary, error) {
	summary, err := folder.Upload(ctx, name, dir, options)
	if err != nil {
		return summary, err
	}
	record, err := capture.Read(dir)
	if err == nil && record.State != capture.Complete {
		err = fmt.Errorf("the capture is %s by now; it was %s", record.State, capture.Complete)
	}
	return summary, err
}

// stored has a report say that the state is in the bucket.
func (r *report) stored(summary image.Summary, took time.Duration) {
	r.manifest = summary.ManifestDigest
	r.uploaded.Status, r.uploaded.Reason = metav1.ConditionTrue, v1alpha1.StateCompleted
	r.uploaded.Message = fmt.Sprintf("%s sent to %s in %s", v1alpha1.ReadableSize(summary.Sent), r.location, v1alpha1.ReadableDuration(took).Duration)
	r.captured.Status, r.captured.Reason = metav1.ConditionTrue, v1alpha1.StateCompleted
	r.captured.Message = r.where("safe in the bucket") + failedHooks(r.hooks)
}

// describe writes into a capture's folder whose state it is, so that the bucket says it as well. What is there stays: an earlier attempt may have sent it.
func describe(ctx context.Context, dir string, checkpoint *v1alpha1.Checkpoint, r report) error {
	path := filepath.Join(dir, stored.FileName)
	if data, err := os.ReadFile(path); err == nil {
		if _, err := stored.Decode(data, checkpoint.Namespace, r.source.Lineage); err == nil { // else a power cut has taken its content
			return nil
		}
	}
	whole := checkpoint.DeepCopy()
	whole.Status.Source, whole.Status.Containers, whole.Status.CaptureTime = &r.source, r.containers, r.captureTime
	whole.Status.Machine = machineOf(r.machine)
	whole.Status.SizeBytes, whole.Status.Size, whole.Status.Frozen = &r.sizeBytes, v1alpha1.ReadableSize(r.sizeBytes), v1alpha1.ReadableDuration(r.frozen)
	err := capture.NoteJSON(path, stored.Checkpoint(whole))
	if image.IsDiskTrouble(err) { // without it a sync does not find out whose state it is, and the upload makes room
		ctrl.LoggerFrom(ctx).Error(err, "say whose state it is")
		return nil
	}
	return err
}

func machineOf(m compat.Facts) *v1alpha1.CheckpointMachine {
	if m == (compat.Facts{}) {
		return nil
	}
	return &v1alpha1.CheckpointMachine{
		Architecture: m.Architecture, Kernel: m.Kernel, PageSizeBytes: int64(m.PageSize), Instructions: m.Instructions, XSaveBytes: int64(m.XSave),
		ControlGroups: int32(m.ControlGroups),
	}
}

// uploadFailed says in the Checkpoint why its state is not in the bucket, and by an event when that is new.
func (a *Agent) uploadFailed(ctx context.Context, checkpoint *v1alpha1.Checkpoint, record *capture.Capture, r report, cause error) error {
	r.uploaded.Reason = v1alpha1.ReasonStorageUnavailable
	r.uploaded.Message = fmt.Sprintf("the state is safe on node %s and will be sent again: %v", a.NodeName, cause)
	if advice := storage.Advice(cause); advice != "" {
		r.uploaded.Message += ". " + advice
	}
	var none noLocation
	var problem *secrets.Problem
	switch {
	case errors.As(cause, &none):
		r.uploaded.Reason = none.reason
	case errors.As(cause, &problem):
		r.uploaded.Reason = problem.Reason
	}
	if none.reason != "" || needsAPerson(cause) {
		stalled := condition(v1alpha1.CheckpointStalled)
		stalled.Status, stalled.Reason, stalled.Message = metav1.ConditionTrue, r.uploaded.Reason, cause.Error()
		if advice := storage.Advice(cause); advice != "" {
			stalled.Message += ". " + advice
		}
		r.stalled = &stalled
	}
	old := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.CheckpointUploaded)
	if isNew := old == nil || old.Reason != r.uploaded.Reason; isNew && !a.failedBefore(checkpoint) {
		a.event(checkpoint, record, corev1.EventTypeWarning, r.uploaded.Reason, r.uploaded.Message)
	}
	uploadFailures.Inc()
	return a.apply(ctx, checkpoint, r)
}

// needsAPerson tells of an error of a bucket whether it stays until somebody does something. One that does not answer may do so by itself.
func needsAPerson(err error) bool {
	return storage.Advice(err) != "" || errors.Is(err, storage.ErrInvalid) || errors.As(err, new(*secrets.Problem)) || apierrors.IsNotFound(err)
}

// failedBefore tells, once it was asked, that a Checkpoint's upload has failed before: attempts come and go with the condition.
func (a *Agent) failedBefore(checkpoint *v1alpha1.Checkpoint) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, before := a.stores["failed/"+string(checkpoint.UID)]
	a.stores["failed/"+string(checkpoint.UID)] = nil
	return before
}

// uploadState is what the names of files begin with, in the folder of a capture, in which an upload notes how far it is.
const uploadState = "agent-upload"

// bucket is where a location keeps states: its store, and what they are encrypted with there.
type bucket struct {
	store storage.Store
	keys  image.Keys
}

func (b bucket) folder(name string) *image.Folder {
	return &image.Folder{Store: b.store, Name: name, Keys: b.keys}
}

// folderOf is where the state of a Checkpoint lies in its bucket, with those of its lineage.
func folderOf(namespace string, source *v1alpha1.CheckpointSource, b bucket) *image.Folder {
	return b.folder(keys.StorageFolder(namespace, source.Lineage))
}

// mostBases is how many Checkpoints are tried as the base of an upload.
const mostBases = 3

// bases returns the Checkpoints in a location with which a new one may have much in common: that from which its pod was restored, then the newest.
func (a *Agent) bases(ctx context.Context, checkpoint *v1alpha1.Checkpoint, source *v1alpha1.CheckpointSource, location string) ([]image.Checkpoint, error) {
	list := &v1alpha1.CheckpointList{}
	if err := a.Client.List(ctx, list, client.InNamespace(checkpoint.Namespace), client.MatchingLabels{keys.Lineage: source.Lineage}); err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(list.Items, func(c v1alpha1.Checkpoint) bool {
		return c.UID == checkpoint.UID || c.Status.Source == nil || c.Status.Source.Lineage != source.Lineage || c.Status.LocationName != location ||
			c.Status.ManifestDigest == "" || c.DeletionTimestamp != nil
	})
	own := func(c *v1alpha1.Checkpoint) int {
		if c.Status.Claim != nil && c.Status.Claim.PodUID == source.PodUID {
			return 0
		}
		return 1
	}
	slices.SortFunc(others, func(x, y v1alpha1.Checkpoint) int {
		return cmp.Or(cmp.Compare(own(&x), own(&y)), y.CreationTimestamp.Compare(x.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
	})
	var bases []image.Checkpoint
	for i := range others[:min(len(others), mostBases)] {
		bases = append(bases, image.Checkpoint{Name: others[i].StorageName(), Digest: others[i].Status.ManifestDigest})
	}
	return bases, nil
}

// uploadBucket returns the location for a new Checkpoint: that in which its upload was begun, or that of its CheckpointPolicy, or the default.
func (a *Agent) uploadBucket(ctx context.Context, checkpoint *v1alpha1.Checkpoint) (string, bucket, error) {
	if name := checkpoint.Status.LocationName; name != "" {
		b, err := a.writableBucket(ctx, name)
		return name, b, err
	}
	var labels map[string]string
	if source := checkpoint.Status.Source; source != nil {
		labels = source.Labels
	}
	policy, err := a.policyOf(ctx, checkpoint.Namespace, labels)
	if err != nil {
		return "", bucket{}, err
	}
	locations := &v1alpha1.CheckpointStorageLocationList{}
	if err := a.Client.List(ctx, locations); err != nil {
		return "", bucket{}, err
	}
	location, reason, message := v1alpha1.UploadLocation(policy, locations.Items)
	if location == nil {
		return "", bucket{}, noLocation{reason, message}
	}
	b, err := a.bucket(ctx, location.Name)
	return location.Name, b, err
}

// writableBucket returns that of a location that has begun to take a Checkpoint, unless it takes nothing any more.
func (a *Agent) writableBucket(ctx context.Context, name string) (bucket, error) {
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: name}, location); err != nil {
		return bucket{}, fmt.Errorf("storage location %q: %w", name, err)
	}
	if location.IsReadOnly() {
		return bucket{}, noLocation{v1alpha1.ReasonLocationReadOnly, v1alpha1.ReadOnlyMessage(name)}
	}
	return a.bucket(ctx, name)
}

// bucket returns that of a location, with a store for each generation of it and of its Secrets.
func (a *Agent) bucket(ctx context.Context, name string) (bucket, error) {
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: name}, location); err != nil {
		return bucket{}, fmt.Errorf("storage location %q: %w", name, err)
	}
	held, err := secrets.Read(location, a.Namespace, func(name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, a.Client.Get(ctx, client.ObjectKey{Namespace: a.Namespace, Name: name}, secret)
	})
	if err != nil {
		return bucket{}, fmt.Errorf("storage location %q: %w", name, err)
	}
	key := fmt.Sprintf("%s/%d/%s", location.UID, location.Generation, held.Version)
	a.mu.Lock()
	defer a.mu.Unlock()
	if store := a.stores[key]; store != nil {
		return bucket{store, held.Keys}, nil
	}
	store, err := a.Open(ctx, location, held.Data)
	if err != nil {
		return bucket{}, err
	}
	for other := range a.stores { // those of earlier generations: what they still do, they finish
		if strings.HasPrefix(other, string(location.UID)+"/") {
			delete(a.stores, other)
		}
	}
	a.stores[key] = store
	return bucket{store, held.Keys}, nil
}

// progress returns a function that tells now and then how far a transfer is, without holding it up, and one after which nothing is told any more.
func (a *Agent) progress(tell func(done, total int64)) (progress func(done, total int64), stop func()) {
	var mu sync.Mutex
	last := a.Now()
	progress = func(done, total int64) {
		if !mu.TryLock() {
			return
		}
		if a.Now().Sub(last) < progressInterval || done >= total {
			mu.Unlock()
			return
		}
		last = a.Now()
		go func() {
			defer mu.Unlock()
			tell(done, total)
		}()
	}
	return progress, mu.Lock
}

// partOf is how far a transfer is, for a person.
func partOf(done, total int64) string {
	return fmt.Sprintf("%s of %s", v1alpha1.ReadableSize(done), v1alpha1.ReadableSize(total))
}
