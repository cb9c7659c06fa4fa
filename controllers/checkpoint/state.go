package checkpoint

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// reportTime is how long a node has to report a capture, from when the Checkpoint was made. A report that comes later counts all the same.
const reportTime = 10 * time.Minute

// endedTime is how long it has when the pod has ended as if nobody had captured it. When a capture failed the program gets its signal, and
// ends by itself, too; that report is on its way then.
const endedTime = 15 * time.Second

// facts are what the state of a Checkpoint is told by.
type facts struct {
	checkpoint *v1alpha1.Checkpoint
	pod        *corev1.Pod // the source; nil when it is gone
	replacedBy types.UID   // of another pod that has its name
	ended      time.Time   // when the source was seen to have ended by itself; zero if it was not
	nodeUp     bool        // the source's node is there and ready, as far as we know
	// nowhere is the reason why there is no location to store it in, and what a person can do; empty when there is one.
	nowhere, help string
	now           time.Time
}

// verdict is what the manager says of a Checkpoint.
type verdict struct {
	state, message string
	// stalled is the reason for which a person is needed, or nothing.
	stalled, help string
	// again is when time alone changes the verdict; 0 is never.
	again time.Duration
}

// judge is the rule by which the state follows from what the node reported, and without a report from what became of the pod.
func judge(f facts) verdict {
	conditions := f.checkpoint.Status.Conditions
	if ready := meta.FindStatusCondition(conditions, v1alpha1.CheckpointReady); ready != nil && ready.Reason == v1alpha1.StateExpired {
		return verdict{state: ready.Reason, message: ready.Message} // for good
	}
	captured := meta.FindStatusCondition(conditions, v1alpha1.CheckpointCaptured)
	switch {
	case captured == nil || captured.Status == metav1.ConditionUnknown || captured.Status == metav1.ConditionFalse && captured.Reason == v1alpha1.StatePending:
		if f.checkpoint.Spec.Trigger.IsLive() {
			return f.unreportedLive()
		}
		return f.unreported()
	case captured.Status == metav1.ConditionTrue:
		return f.captured()
	case captured.Reason == v1alpha1.StateDumping:
		v := verdict{state: v1alpha1.StateDumping, message: captured.Message}
		if !f.nodeUp {
			v.stalled, v.help = v1alpha1.ReasonNodeUnavailable, fmt.Sprintf("node %s, which was writing the state, is not ready", f.node())
		}
		return v
	case captured.Reason == v1alpha1.StateDiscarded, captured.Reason == v1alpha1.ReasonSourceExited:
		return verdict{state: v1alpha1.StateDiscarded, message: captured.Message}
	}
	return verdict{state: v1alpha1.StateFailed, message: captured.Reason + ": " + captured.Message}
}

// captured is the verdict on a state that is safe on its node at least.
func (f facts) captured() verdict {
	uploaded := meta.FindStatusCondition(f.checkpoint.Status.Conditions, v1alpha1.CheckpointUploaded)
	if uploaded != nil && uploaded.Status == metav1.ConditionTrue {
		return verdict{state: v1alpha1.StateCompleted, message: "a new pod of the same lineage can be restored from it"}
	}
	v := verdict{state: v1alpha1.StateUploading, message: fmt.Sprintf("safe on node %s, on its way to the bucket", f.node())}
	if uploaded != nil && uploaded.Message != "" {
		v.message = uploaded.Message
	}
	switch {
	case !f.nodeUp:
		v.stalled, v.help = v1alpha1.ReasonNodeUnavailable, fmt.Sprintf("the state is on node %s alone, which is not ready", f.node())
	case f.nowhere != "":
		v.stalled, v.help = f.nowhere, f.help
	}
	return v
}

// unreported is the verdict on a capture of which no node has said anything.
func (f facts) unreported() verdict {
	v := verdict{state: v1alpha1.StatePending, stalled: f.nowhere, help: f.help}
	if !f.ended.IsZero() {
		if left := f.ended.Add(endedTime).Sub(f.now); left > 0 {
			v.message, v.again = fmt.Sprintf("pod %s has ended by itself, as it seems; node %s may say otherwise", f.checkpoint.Spec.SourcePodName, f.node()), left
			return v
		}
		return verdict{state: v1alpha1.StateDiscarded, message: "the pod's containers had ended by themselves before they were to be stopped"}
	}
	if p := f.pod; p != nil {
		v.message = fmt.Sprintf("pod %s has not been captured yet", p.Name)
		if p.DeletionTimestamp.IsZero() {
			v.message = fmt.Sprintf("pod %s is not being terminated", p.Name)
		}
		return v
	}
	// Once the pod is gone nothing can be learnt any more but from its node: what was known stays.
	if ready := meta.FindStatusCondition(f.checkpoint.Status.Conditions, v1alpha1.CheckpointReady); ready != nil {
		if ready.Reason == v1alpha1.StateDiscarded || ready.Reason == v1alpha1.StateFailed {
			return verdict{state: ready.Reason, message: ready.Message}
		}
	}
	if left := f.checkpoint.CreationTimestamp.Add(reportTime).Sub(f.now); left > 0 {
		v.message, v.again = fmt.Sprintf("pod %s is gone; node %s has not reported a capture yet", f.checkpoint.Spec.SourcePodName, f.node()), left
		return v
	}
	v = verdict{state: v1alpha1.StateFailed}
	if f.nodeUp {
		v.message = fmt.Sprintf("%s: node %s captured nothing", v1alpha1.ReasonSourceExited, f.node())
		return v
	}
	v.message = fmt.Sprintf("%s: node %s is not ready; what it captured can be published when it is back", v1alpha1.ReasonNodeUnavailable, f.node())
	return v
}

func (f facts) node() string {
	if s := f.checkpoint.Status.Source; s != nil {
		return s.Node
	}
	if f.pod != nil {
		return f.pod.Spec.NodeName
	}
	return "(unknown)"
}

// killed is the exit code of a process that got SIGKILL, as every captured one does.
const killed = 128 + 9

// endedByItself tells whether a pod has ended in a way in which a captured one never does: no selected container was killed.
func endedByItself(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	if pod.Status.Phase != corev1.PodFailed || len(pod.Status.ContainerStatuses) == 0 {
		return false
	}
	settings, err := capture.ParseSettings(pod.Annotations[keys.Effective])
	if err != nil {
		return false
	}
	for _, status := range pod.Status.ContainerStatuses {
		if t := status.State.Terminated; settings.Selects(status.Name) && (t == nil || t.ExitCode == killed) {
			return false
		}
	}
	return true
}
