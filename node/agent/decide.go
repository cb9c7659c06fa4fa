package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

const (
	// defaultMaxAge is that of a RestorePolicy.
	defaultMaxAge = 24 * time.Hour
	// waitPatience bounds how long a new pod waits for a state that is not there yet.
	waitPatience = 5 * time.Minute
)

// facts are what a choice is made by.
type facts struct {
	pod         *corev1.Pod
	own         lineage.Lineage
	policy      *v1alpha1.RestorePolicy // nil: the defaults
	checkpoints []v1alpha1.Checkpoint   // of the namespace
	siblings    []corev1.Pod            // labelled pods of the namespace, on all nodes
	unpublished []note                  // of the captures on this node that the API knows nothing of
	// here tells whether the state of that pod lies on this node.
	here func(podUID string) bool
	now  time.Time
}

// choice is what is to be done about a new pod: claim a Checkpoint, wait, or start it cold. Exactly one of the three is set.
type choice struct {
	claim   *v1alpha1.Checkpoint
	wait    string // a sentence
	cold    string // a reason
	message string // of the cold start
}

// choose is the rule (design M1 to M4): the newest unclaimed Checkpoint of the lineage and identity, once nothing newer is on its way.
func choose(f facts) choice {
	if f.pod.Labels[keys.RestoreMode] == keys.False {
		return choice{cold: keys.ColdRestoreDisabled, message: "the label " + keys.RestoreMode + " says so"}
	}
	maxAge := defaultMaxAge
	if p := f.policy; p != nil {
		if p.Spec.Mode == v1alpha1.RestoreDisabled {
			return choice{cold: keys.ColdRestoreDisabled, message: fmt.Sprintf("RestorePolicy %s says so", p.Name)}
		}
		if p.Spec.MaxAge != nil {
			maxAge = p.Spec.MaxAge.Duration
		}
	}
	candidates, tooOld := f.candidates(maxAge)
	for i, c := range candidates { // this agent claimed it before it was killed
		if c.Status.Claim != nil && c.Status.Claim.PodUID == f.pod.UID {
			return choice{claim: &candidates[i]}
		}
	}
	patient := f.now.Sub(boundSince(f.pod)) < waitPatience
	if going := f.inFlight(); going != "" && patient {
		return choice{wait: going}
	}
	for i, c := range candidates {
		if meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointUploaded) || f.here(string(c.Status.Source.PodUID)) {
			return choice{claim: &candidates[i]}
		}
		if patient {
			return choice{wait: fmt.Sprintf("waiting for the upload of Checkpoint %s from %s", c.Name, c.Status.Source.Node)}
		}
	}
	switch {
	case len(candidates) > 0:
		return choice{cold: keys.ColdWaitTimeout, message: fmt.Sprintf("Checkpoint %s was not in the bucket after %s", candidates[0].Name, waitPatience)}
	case tooOld != "":
		return choice{cold: keys.ColdCheckpointTooOld, message: fmt.Sprintf("Checkpoint %s is older than %s", tooOld, maxAge)}
	}
	if other := f.otherRevision(); other != "" {
		return choice{cold: keys.ColdTemplateChanged, message: fmt.Sprintf("Checkpoint %s is of another revision of the template", other)}
	}
	return choice{cold: keys.ColdNoCheckpoint, message: "there is no Checkpoint to restore it from"}
}

// candidates returns the Checkpoints that the pod could be restored from, the newest first, and the name of one that is too old.
func (f facts) candidates(maxAge time.Duration) (found []v1alpha1.Checkpoint, tooOld string) {
	for _, c := range f.checkpoints {
		s := c.Status.Source
		if s == nil || s.Lineage != f.own.Lineage || s.Identity != f.own.Identity || !c.DeletionTimestamp.IsZero() || c.Status.CaptureTime == nil {
			continue
		}
		isWhole := meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointCaptured) || f.here(string(s.PodUID))
		if !isWhole || s.PodUID == f.pod.UID {
			continue
		}
		if claim := c.Status.Claim; claim != nil && (claim.PodUID != f.pod.UID || claim.Phase == v1alpha1.ClaimConsumed) {
			continue
		}
		if f.now.Sub(c.Status.CaptureTime.Time) > maxAge {
			tooOld = c.Name
			continue
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(x, y v1alpha1.Checkpoint) int {
		return cmp.Or(y.Status.CaptureTime.Compare(x.Status.CaptureTime.Time), cmp.Compare(x.Name, y.Name))
	})
	return found, tooOld
}

// inFlight returns a sentence when a pod of the lineage and identity goes whose state may still come.
func (f facts) inFlight() string {
	settled := map[string]bool{}
	for _, c := range f.checkpoints {
		if c.Status.CaptureTime != nil && f.here(string(c.Spec.SourcePodUID)) { // whatever the disk still has to do
			settled[string(c.Spec.SourcePodUID)] = true
		}
		captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
		if captured != nil && (captured.Status == metav1.ConditionTrue || captured.Reason != v1alpha1.StatePending && captured.Reason != v1alpha1.StateDumping) {
			settled[string(c.Spec.SourcePodUID)] = true
		}
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
		if ready != nil && (ready.Reason == v1alpha1.StateFailed || ready.Reason == v1alpha1.StateDiscarded) { // the manager knows that nothing will come
			settled[string(c.Spec.SourcePodUID)] = true
		}
	}
	for i := range f.siblings {
		p := &f.siblings[i]
		going := !p.DeletionTimestamp.IsZero() || isDisrupted(p)
		if p.UID == f.pod.UID || !going || settled[string(p.UID)] || !isProtected(p) || p.Spec.NodeName == "" {
			continue
		}
		if own := lineage.Of(p); own.Lineage == f.own.Lineage && own.Identity == f.own.Identity {
			return fmt.Sprintf("waiting for the capture of pod %s on %s", p.Name, p.Spec.NodeName)
		}
	}
	for _, n := range f.unpublished {
		if n.Source.Lineage == f.own.Lineage && n.Source.Identity == f.own.Identity && !settled[string(n.Source.PodUID)] && n.Source.PodUID != f.pod.UID {
			return fmt.Sprintf("waiting until the capture of pod %s is published", n.Checkpoint.Spec.SourcePodName)
		}
	}
	for _, c := range f.checkpoints {
		s := c.Status.Source
		if s == nil || s.Lineage != f.own.Lineage || s.Identity != f.own.Identity || s.PodUID == f.pod.UID || settled[string(s.PodUID)] {
			continue
		}
		if c.DeletionTimestamp.IsZero() && f.now.Sub(c.CreationTimestamp.Time) < waitPatience {
			return fmt.Sprintf("waiting for the capture of pod %s on %s", c.Spec.SourcePodName, s.Node)
		}
	}
	return ""
}

// otherRevision returns the name of a Checkpoint that the same owner's pods left under another template.
func (f facts) otherRevision() string {
	if f.own.Owner == nil {
		return ""
	}
	for _, c := range f.checkpoints {
		if s := c.Status.Source; s != nil && s.Owner != nil && s.Owner.UID == f.own.Owner.UID && s.Lineage != f.own.Lineage && s.Identity == f.own.Identity {
			return c.Name
		}
	}
	return ""
}

// isProtected tells whether a pod runs under our runtime, by admission's doing.
func isProtected(pod *corev1.Pod) bool {
	class := pod.Spec.RuntimeClassName
	return class != nil && *class == keys.RuntimeClass && pod.Annotations[keys.Effective] != ""
}

// boundSince is when a pod got its node.
func boundSince(pod *corev1.Pod) time.Time {
	if c := podCondition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

// gather reads what a choice is made by.
func (a *Agent) gather(ctx context.Context, pod *corev1.Pod) (facts, error) {
	f := facts{pod: pod, own: lineage.Of(pod), now: a.Now(), here: func(podUID string) bool { return a.localCapture(podUID) != "" }}
	if pod.Labels[keys.RestoreMode] == keys.False {
		return f, nil
	}
	inNamespace := client.InNamespace(pod.Namespace)
	checkpoints, policies, siblings := &v1alpha1.CheckpointList{}, &v1alpha1.RestorePolicyList{}, &corev1.PodList{}
	if err := a.Client.List(ctx, checkpoints, inNamespace); err != nil {
		return f, err
	}
	if err := a.Client.List(ctx, policies, inNamespace); err != nil {
		return f, err
	}
	if err := a.Everywhere.List(ctx, siblings, inNamespace, client.MatchingLabels{keys.CheckpointMode: keys.True}); err != nil {
		return f, err
	}
	f.unpublished = a.unpublished()
	f.checkpoints, f.siblings, f.policy = checkpoints.Items, siblings.Items, policyOf(pod, f.own, policies.Items)
	return f, nil
}

// policyOf returns the RestorePolicy of a pod: one with a selector goes before the one of its owner; of several the oldest, then the first by name.
func policyOf(pod *corev1.Pod, own lineage.Lineage, policies []v1alpha1.RestorePolicy) *v1alpha1.RestorePolicy {
	var best *v1alpha1.RestorePolicy
	for i := range policies {
		p := &policies[i]
		if !p.DeletionTimestamp.IsZero() || !appliesTo(p, pod, own) {
			continue
		}
		if best == nil || comparePolicies(p, best) < 0 {
			best = p
		}
	}
	return best
}

func comparePolicies(x, y *v1alpha1.RestorePolicy) int {
	if (x.Spec.Selector != nil) != (y.Spec.Selector != nil) {
		if x.Spec.Selector != nil {
			return -1
		}
		return 1
	}
	return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
}

func appliesTo(p *v1alpha1.RestorePolicy, pod *corev1.Pod, own lineage.Lineage) bool {
	if p.Spec.Selector == nil {
		return p.Spec.Owner != nil && own.Owner != nil && p.Spec.Owner.UID == own.Owner.UID
	}
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}
