package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// What follows is for containers that end while their pod stays, and that the runtime restores again from what the pod left last, without asking anybody.

// servesRestarts tells whether a container of a pod goes on from the capture in a folder if it ends: it is the last that the pod left while it went on, and
// the decision for the pod grants restarts.
func (a *Agent) servesRestarts(dir string, record *capture.Capture) bool {
	if !record.Trigger.IsLive() || record.State != capture.Complete || len(record.Containers) != 1 {
		return false
	}
	if d, err := a.Node.Decision(record.Pod.UID); err != nil || d.Restarts == 0 {
		return false
	}
	for _, name := range namesIn(filepath.Dir(dir)) {
		later, err := capture.Read(filepath.Join(filepath.Dir(dir), name))
		if err == nil && number(name) > number(filepath.Base(dir)) && later.State == capture.Complete && later.Trigger.IsLive() {
			return false
		}
	}
	return true
}

// isThere tells whether a captured pod has not ended. It is, as long as nothing else is known.
func (a *Agent) isThere(ctx context.Context, captured capture.Pod) bool {
	pod := &corev1.Pod{}
	err := a.Client.Get(ctx, client.ObjectKey{Namespace: captured.Namespace, Name: captured.Name}, pod)
	if err != nil {
		return client.IgnoreNotFound(err) != nil
	}
	return string(pod.UID) == captured.UID && !podspec.HasEnded(pod)
}

// afresh says which containers of a pod have begun from scratch, though there was something to go on from, and why. It is empty when there are none.
func (a *Agent) afresh(pod *corev1.Pod) string {
	var said []string
	for _, c := range pod.Spec.Containers {
		if line, err := a.Node.Line(string(pod.UID), c.Name); err == nil && line.Why != "" {
			said = append(said, fmt.Sprintf("container %q has begun from scratch since then: %s", c.Name, line.Why))
		}
	}
	return strings.Join(said, "; ")
}

// addRestarts adds to what became of a pod at its start what became of its containers when they ended.
func (a *Agent) addRestarts(o *outcome, pod *corev1.Pod, d *capture.Decision, results []*capture.Result) {
	message, afresh := restarted(pod, d, results), a.afresh(pod)
	wasRestored := o.status == corev1.ConditionTrue
	switch {
	case !o.done:
	case wasRestored && message != "" && (d.Restarts == 0 || a.isAfresh(pod, d.Containers)):
		o.status, o.reason, o.message = corev1.ConditionFalse, keys.ColdRestarted, message
		if afresh != "" {
			o.message = fmt.Sprintf("continued from Checkpoint %s; %s", d.Checkpoint, afresh)
		}
	case afresh != "":
		o.message += "; " + afresh
	}
}

// isAfresh tells whether one of those containers of a pod is from scratch, and not restored.
func (a *Agent) isAfresh(pod *corev1.Pod, containers []string) bool {
	return slices.ContainsFunc(containers, func(name string) bool {
		line, err := a.Node.Line(string(pod.UID), name)
		return err == nil && line.Afresh && len(line.Containers) == 1
	})
}
