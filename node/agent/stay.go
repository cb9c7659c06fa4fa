package agent

import (
	"context"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// How often an agent that is to end looks what is left to do, for how long there must be nothing, and how long it waits for the API server.
const (
	stayInterval = 500 * time.Millisecond
	stayQuiet    = 2 * time.Second // pods as critical as the agent get their signal at the same time
	stayPatience = 2 * time.Second
	lastPatience = time.Minute // of an agent that is removed with the operator
)

// Stay returns the context of the agent, which may outlast that of its stop signal. When its pod was deleted, as by a rollout, it ends at once: another
// agent goes on. When it was not, kubelet stops it for another reason, mostly since the node shuts down, and stops it last: then it ends when the states of
// all pods that are gone are in the bucket. How long that may take is kubelet's to say. The last agent, as the operator is removed, waits for them too, but
// for a minute at most.
func (a *Agent) Stay(asked context.Context) context.Context {
	ctx, end := context.WithCancel(context.WithoutCancel(asked))
	go func() {
		defer end()
		<-asked.Done()
		a.finish(ctx)
	}()
	return ctx
}

// finish returns when the agent may end.
func (a *Agent) finish(ctx context.Context) {
	log := ctrl.LoggerFrom(ctx).WithName("stay")
	said, quietSince, until := -1, a.Now(), time.Time{}
	for ; ; time.Sleep(stayInterval) {
		if a.isReplaced(ctx) && until.IsZero() {
			if a.IsOver == nil || !a.IsOver(ctx) {
				return
			}
			until = a.Now().Add(lastPatience)
		}
		left := a.unsent()
		if left != said {
			log.Info("the agent is to end, and no other takes over: it waits until what pods have left behind is in the bucket", "states", left)
		}
		if left > 0 {
			quietSince = a.Now()
		}
		said = left
		if a.Now().Sub(quietSince) >= stayQuiet {
			return
		}
		if !until.IsZero() && a.Now().After(until) {
			log.Info("the operator is removed, and states stay on the node's disk that are in no bucket", "states", left)
			return
		}
	}
}

// isReplaced tells whether another agent takes over: this one's pod is deleted, or is none. Where the API server does not answer, it is not known to be.
func (a *Agent) isReplaced(ctx context.Context) bool {
	if a.Pod.Name == "" {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, stayPatience)
	defer cancel()
	pod := &corev1.Pod{}
	err := a.Everywhere.Get(ctx, a.Pod, pod)
	return apierrors.IsNotFound(err) || err == nil && !pod.DeletionTimestamp.IsZero()
}

// unsent counts the states of pods that go or are gone, and that are not in the bucket and may still come there without a person.
func (a *Agent) unsent() (count int) {
	dirs, err := filepath.Glob(filepath.Join(a.Node.CapturesRoot(), "*", "[0-9]*"))
	if err != nil {
		return 0
	}
	pods := map[string]bool{}
	for _, podUID := range namesIn(filepath.Join(a.Node.Root, "run/checkpoint/signals")) { // their captures have not begun
		pods[podUID] = true
	}
	for _, dir := range dirs {
		if a.isUnsent(dir) {
			pods[filepath.Base(filepath.Dir(dir))] = true
		}
	}
	return len(pods)
}

func (a *Agent) isUnsent(dir string) bool {
	if isUploadedFrom(dir) || isDiscarded(dir) {
		return false
	}
	record, err := capture.Read(dir)
	if err != nil || !record.Trigger.IsTermination() || record.State == capture.Failed {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.work[dir]
	return p == nil || !p.stuck
}
