package agent

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// The queues of a node, as the metrics name them.
const (
	queueCapture = "capture"
	queuePublish = "publish"
	queueUpload  = "upload"
	queueRestore = "restore"
)

// queue is how much is in one, and when the oldest of it began.
type queue struct {
	length int
	oldest time.Time
}

func (q *queue) add(began time.Time) {
	q.length++
	if q.oldest.IsZero() || began.Before(q.oldest) {
		q.oldest = began
	}
}

// measureQueues tells by metrics what is under way on the node, and since when.
func (a *Agent) measureQueues(ctx context.Context) {
	queues := map[string]*queue{queueCapture: {}, queuePublish: {}, queueUpload: {}, queueRestore: {}}
	if err := a.addCaptures(queues); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "measure the captures of the node")
	}
	pods := &corev1.PodList{}
	if err := a.Client.List(ctx, pods); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "measure the new pods of the node")
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; a.isUndecided(pod) {
			queues[queueRestore].add(boundAt(pod))
		}
	}
	for name, q := range queues {
		queueLength.WithLabelValues(name).Set(float64(q.length))
		if q.oldest.IsZero() {
			queueOldest.DeleteLabelValues(name)
			continue
		}
		queueOldest.WithLabelValues(name).Set(float64(q.oldest.UnixMilli()) / 1000)
	}
}

// addCaptures adds each capture to the queue that it is in. One that is in a bucket, or in the volume of its pod, is in none.
func (a *Agent) addCaptures(queues map[string]*queue) error {
	dirs, err := filepath.Glob(filepath.Join(a.Node.CapturesRoot(), "*", "[0-9]*"))
	for _, dir := range dirs {
		record, readErr := capture.Read(dir)
		if readErr != nil { // it has just been begun, or removed
			continue
		}
		m, readErr := readMemo(dir)
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		switch {
		case record.State == capture.Dumping || record.State == capture.Dumped:
			queues[queueCapture].add(record.Started)
		case record.State == capture.Failed || m.CheckpointUID == "":
			queues[queuePublish].add(record.Started)
		case m.Uploaded.IsZero() && record.Kept == nil:
			queues[queueUpload].add(record.Started)
		}
	}
	return err
}

// isUndecided tells of a new pod of this node whether it waits for what it goes on from.
func (a *Agent) isUndecided(pod *corev1.Pod) bool {
	if !podspec.IsProtected(pod) || !pod.DeletionTimestamp.IsZero() || pod.Status.Phase != corev1.PodPending {
		return false
	}
	_, err := a.Node.Decision(string(pod.UID))
	return errors.Is(err, fs.ErrNotExist)
}

// boundAt is when a pod was bound to its node; zero where that is not known.
func boundAt(pod *corev1.Pod) time.Time {
	if c := podspec.Condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}
