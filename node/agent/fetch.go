package agent

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

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/secrets"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// claim takes a Checkpoint for a pod; false when another pod was faster.
func (a *Agent) claim(ctx context.Context, pod *corev1.Pod, checkpoint *v1alpha1.Checkpoint) (bool, error) {
	err := a.applyClaim(ctx, checkpoint, a.claimOf(pod).WithPhase(v1alpha1.ClaimClaimed))
	if apierrors.IsNotFound(err) || isConflict(err) {
		return false, nil
	}
	return err == nil, err
}

// consume says that the claimed Checkpoint is used up: the pod goes on from it, or from the older one of that name in its place.
func (a *Agent) consume(ctx context.Context, pod *corev1.Pod, checkpoint *v1alpha1.Checkpoint, from string) error {
	claim := a.claimOf(pod).WithPhase(v1alpha1.ClaimConsumed).WithConsumedTime(metav1.NewTime(a.Now()))
	if from != "" {
		claim.WithRestoredFrom(from)
	}
	return a.applyClaim(ctx, checkpoint, claim)
}

func (a *Agent) claimOf(pod *corev1.Pod) *apply.CheckpointClaimApplyConfiguration {
	return apply.CheckpointClaim().WithPodUID(pod.UID).WithPodName(pod.Name).WithNode(a.NodeName)
}

func (a *Agent) applyClaim(ctx context.Context, checkpoint *v1alpha1.Checkpoint, claim *apply.CheckpointClaimApplyConfiguration) error {
	return a.applyStatus(ctx, checkpoint, keys.ClaimFields(string(*claim.PodUID)), apply.CheckpointStatus().WithClaim(claim))
}

// release gives a Checkpoint back of which nothing has run.
func (a *Agent) release(ctx context.Context, pod *corev1.Pod, checkpoint *v1alpha1.Checkpoint) error {
	err := a.applyStatus(ctx, checkpoint, keys.ClaimFields(string(pod.UID)), apply.CheckpointStatus())
	return client.IgnoreNotFound(err)
}

// fetch brings the state of a Checkpoint to stateOf the pod: from this node, where it was captured, or from the bucket, verified.
func (a *Agent) fetch(ctx context.Context, pod *corev1.Pod, checkpoint *v1alpha1.Checkpoint) (*capture.Capture, error) {
	if err := a.dropStates(pod); err != nil {
		return nil, err
	}
	target := a.stateOf(pod, checkpoint)
	if record, err := capture.Read(target); err == nil { // before this agent was killed
		return record, nil
	}
	if local := a.localState(checkpoint); local != "" {
		err := linkTree(local, target)
		if err == nil {
			return capture.Read(target)
		}
		if !isUploaded(checkpoint) && checkpoint.Status.Volume == nil {
			return nil, err
		}
	}
	if checkpoint.Status.Volume != nil {
		return keptRecord(checkpoint), nil
	}
	bucket, err := a.bucket(ctx, checkpoint.Status.LocationName)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return nil, err
	}
	select {
	case a.fetches <- struct{}{}:
		defer func() { <-a.fetches }()
	default:
		return nil, errNoTurn
	}
	restores := a.Node.Restores(string(pod.UID)) // a pod's states are fetched one after the other
	folder := folderOf(checkpoint.Namespace, checkpoint.Status.Source, bucket)
	if size := checkpoint.Status.SizeBytes; size != nil {
		folder.Most = *size*sizeFactor + sizeSpare
		there, err := capture.DiskUsage(target + image.PartialSuffix) // of a fetch that was cut off
		if err != nil {
			return nil, err
		}
		if err := a.Node.Reserve(restores, max(*size-there, 0)); err != nil {
			return nil, err
		}
	}
	defer func() { _ = capture.Unreserve(restores) }() // at the latest the decision does, or the end of its folder
	progress, stop := a.progress(func(done, total int64) {
		_ = a.Node.Hint(string(pod.UID), capture.WaitingHint, "fetching Checkpoint "+checkpoint.Name+": "+partOf(done, total))
	})
	defer stop()
	state := image.Checkpoint{Name: checkpoint.StorageName(), Digest: checkpoint.Status.ManifestDigest}
	began := a.Now()
	summary, err := folder.Fetch(ctx, state, target, progress)
	if errors.Is(err, storage.ErrNoKey) {
		err = fmt.Errorf("%w; storage location %q does not have it", err, checkpoint.Status.LocationName)
	}
	if err != nil {
		fetchFailures.Inc()
		return nil, err
	}
	fetchedBytes.Add(float64(summary.Bytes))
	fetchSeconds.Observe(a.Now().Sub(began).Seconds())
	return capture.Read(target)
}

// How much a state may have, of which the Checkpoint says the room that it took on the disk: as many times that, since file systems compress, and some bytes.
// Without a bound whoever can write to a bucket would fill the disk of a node.
const (
	sizeFactor = 8
	sizeSpare  = 64 << 20
)

// errNoTurn says that as many states are fetched as may be at once.
var errNoTurn = errors.New("other states are fetched at this moment")

// isNearlyFull tells whether a disk has less than a tenth left.
func isNearlyFull(dir string) bool {
	const enough = 10 // a part of it
	var disk unix.Statfs_t
	return unix.Statfs(dir, &disk) == nil && disk.Bavail < disk.Blocks/enough
}

// isUploaded tells whether the bucket has the state, too.
func isUploaded(checkpoint *v1alpha1.Checkpoint) bool { return checkpoint.Status.ManifestDigest != "" }

// isForGood tells whether a fetch cannot succeed later.
func isForGood(err error) bool {
	return errors.Is(err, errUnfit) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrNoBucket) ||
		errors.Is(err, storage.ErrNoKey)
}

// unfetchedReason is the reason of the condition Restored for a fetch that failed.
func unfetchedReason(err error) string {
	var problem *secrets.Problem
	if errors.Is(err, storage.ErrNoKey) || errors.As(err, &problem) && problem.Reason != v1alpha1.LocationCredentialsMissing {
		return keys.ColdEncryptionKeyMissing
	}
	return keys.ColdRestoreFailed
}

// errUnfit says that a state is not one of such a pod.
var errUnfit = errors.New("it does not fit the pod")

// fits returns an error when there is nothing in a state to go on from, or a container was captured that the pod has not: the others would wait for it.
func fits(pod *corev1.Pod, record *capture.Capture) error {
	if record.State != capture.Complete || len(record.Containers) == 0 {
		return fmt.Errorf("%w: it is %s and has %d containers; it may be %s and has one or more", errUnfit, record.State, len(record.Containers), capture.Complete)
	}
	has := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	for _, captured := range record.Containers {
		if !slices.ContainsFunc(has, func(own corev1.Container) bool { return own.Name == captured.Name }) {
			return fmt.Errorf("%w: it has the container %q, which the pod has not", errUnfit, captured.Name)
		}
	}
	return nil
}

// localCapture returns the folder of the newest complete capture of a pod that went, on this node; none is empty. Of one from before the node went down
// that was not on the disk, the runtime says that it failed.
func (a *Agent) localCapture(podUID string) string {
	names := namesIn(a.Node.Captures(podUID))
	slices.SortFunc(names, func(x, y string) int { return number(y) - number(x) })
	for _, name := range names {
		dir := filepath.Join(a.Node.Captures(podUID), name)
		if number(name) < 0 {
			continue
		}
		record, err := capture.Read(dir)
		if err == nil && record.State == capture.Complete && !record.Trigger.IsLive() && a.Node.IsWhole(dir, record) {
			return dir
		}
	}
	return ""
}

// number is that of a finished capture's folder; -1 for any other.
func number(name string) int {
	n, err := strconv.Atoi(name)
	if err != nil {
		return -1
	}
	return n
}

// linkTree makes target a tree of hard links to the files of dir: the same bytes, that stay when dir goes. It appears whole or not at all.
func linkTree(dir, target string) error {
	partial := target + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		to := filepath.Join(partial, name)
		switch {
		case entry.IsDir():
			return os.MkdirAll(to, 0o700)
		case strings.HasPrefix(name, "agent"):
			return nil
		case entry.Type().IsRegular():
			return os.Link(path, to)
		}
		return fmt.Errorf("%s is neither a folder nor a file", path)
	})
	if err != nil {
		return err
	}
	return os.Rename(partial, target)
}

// isLocked tells whether somebody holds a lock file.
func isLocked(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
