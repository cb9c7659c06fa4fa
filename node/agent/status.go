package agent

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

func uid(text string) types.UID { return types.UID(text) }

// report is what the agent says of a Checkpoint: all of it each time, as an apply removes what is left out.
type report struct {
	source             v1alpha1.CheckpointSource
	captured, uploaded metav1.Condition
	stalled            *metav1.Condition
	containers         []v1alpha1.CheckpointContainer
	machine            compat.Facts
	captureTime        *metav1.Time
	sizeBytes          int64
	uploadedBytes      *int64 // while it is on its way
	frozen             time.Duration
	hooks              []capture.HookRun
	location, manifest string
	volume             *v1alpha1.CheckpointVolume
	notKept            string // the storage volume that has it not, and why
	logTail            string
}

// where adds to a sentence about where a state is in which storage volume it is not.
func (r *report) where(sentence string) string {
	if r.notKept == "" {
		return sentence
	}
	return sentence + "; it is not in " + r.notKept
}

// apply writes the report into the status of a Checkpoint.
func (a *Agent) apply(ctx context.Context, checkpoint *v1alpha1.Checkpoint, r report) error {
	status := apply.CheckpointStatus().WithSource(sourceOf(checkpoint, r.source))
	for _, c := range []*metav1.Condition{&r.captured, &r.uploaded, r.stalled} {
		if c != nil && c.Type != "" {
			status.WithConditions(conditionOf(checkpoint, *c, a.Now()))
		}
	}
	for _, c := range r.containers {
		entry := apply.CheckpointContainer().WithName(c.Name)
		if c.Image != "" {
			entry.WithImage(c.Image)
		}
		if c.ImageDigest != "" {
			entry.WithImageDigest(c.ImageDigest)
		}
		if c.MemoryBytes != nil {
			entry.WithMemoryBytes(*c.MemoryBytes)
		}
		status.WithContainers(entry)
	}
	if m := r.machine; m != (compat.Facts{}) {
		machine := apply.CheckpointMachine().WithArchitecture(m.Architecture).WithKernel(m.Kernel).WithPageSizeBytes(int64(m.PageSize)).
			WithInstructions(m.Instructions).WithXSaveBytes(int64(m.XSave))
		if m.ControlGroups > 0 {
			machine.WithControlGroups(int32(m.ControlGroups))
		}
		status.WithMachine(machine)
	}
	if r.captureTime != nil {
		status.WithCaptureTime(*r.captureTime)
	}
	if r.sizeBytes > 0 {
		status.WithSizeBytes(r.sizeBytes).WithSize(*v1alpha1.ReadableSize(r.sizeBytes))
	}
	if r.uploadedBytes != nil {
		status.WithUploadedBytes(*r.uploadedBytes)
	}
	if r.frozen > 0 {
		status.WithFrozen(*v1alpha1.ReadableDuration(r.frozen))
	}
	if h := hookStatus(r.hooks); h != nil {
		status.WithHooks(apply.CheckpointHookStatus().WithAttempted(h.Attempted).WithFailed(h.Failed))
	}
	if r.location != "" {
		status.WithLocationName(r.location)
	}
	if r.manifest != "" {
		status.WithManifestDigest(r.manifest)
	}
	if v := cmp.Or(checkpoint.Status.Volume, r.volume); v != nil { // which cannot change
		status.WithVolume(apply.CheckpointVolume().WithName(v.Name).WithKind(v.Kind).WithSource(v.Source).WithFile(v.File).WithSizeBytes(v.SizeBytes).
			WithContentBytes(v.ContentBytes).WithDigest(v.Digest))
	}
	if r.logTail != "" {
		status.WithLogTail(r.logTail)
	}
	return a.applyStatus(ctx, checkpoint, keys.PublishFields, status)
}

// applyStatus writes one part of the status; checkpoint becomes what the API server has then.
func (a *Agent) applyStatus(ctx context.Context, checkpoint *v1alpha1.Checkpoint, manager string, status *apply.CheckpointStatusApplyConfiguration) error {
	wanted := apply.Checkpoint(checkpoint.Name, checkpoint.Namespace).WithUID(checkpoint.UID).WithStatus(status)
	if err := a.Client.Status().Apply(ctx, wanted, client.FieldOwner(manager), client.ForceOwnership); err != nil {
		return fmt.Errorf("write the status of Checkpoint %s/%s: %w", checkpoint.Namespace, checkpoint.Name, err)
	}
	return a.Client.Get(ctx, client.ObjectKeyFromObject(checkpoint), checkpoint)
}

// sourceOf returns the source that is there already, which cannot change, or the one that is known here.
func sourceOf(checkpoint *v1alpha1.Checkpoint, known v1alpha1.CheckpointSource) *apply.CheckpointSourceApplyConfiguration {
	source := known
	if checkpoint.Status.Source != nil {
		source = *checkpoint.Status.Source
	}
	wanted := apply.CheckpointSource().WithPodUID(source.PodUID).WithNode(source.Node).WithLineage(source.Lineage).WithLabels(source.Labels)
	if source.Identity != "" {
		wanted.WithIdentity(source.Identity)
	}
	if source.RestoreFrom != "" {
		wanted.WithRestoreFrom(source.RestoreFrom)
	}
	if o := source.Owner; o != nil {
		wanted.WithOwner(apply.Owner().WithAPIVersion(o.APIVersion).WithKind(o.Kind).WithName(o.Name).WithUID(o.UID))
	}
	return wanted
}

// conditionOf keeps the time of the last transition as long as the status stays.
func conditionOf(checkpoint *v1alpha1.Checkpoint, c metav1.Condition, now time.Time) *metav1apply.ConditionApplyConfiguration {
	since := metav1.NewTime(now)
	if old := meta.FindStatusCondition(checkpoint.Status.Conditions, c.Type); old != nil && old.Status == c.Status {
		since = old.LastTransitionTime
	}
	return metav1apply.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(cut(c.Message)).WithLastTransitionTime(since)
}

// cut keeps a message within what a condition takes.
func cut(message string) string {
	const most = 8 << 10
	if len(message) > most {
		return message[:most]
	}
	return message
}

// podFields is the field manager of the agent's conditions on pods.
const podFields = "checkpoint-agent"

// tell writes conditions of a pod, all that the agent has to say at once, and tells what has changed by an event for each.
func (a *Agent) tell(ctx context.Context, pod *corev1.Pod, conditions ...corev1.PodCondition) error {
	status, changed := corev1apply.PodStatus(), []corev1.PodCondition{}
	for _, c := range conditions {
		since := metav1.NewTime(a.Now())
		old := podspec.Condition(pod, c.Type)
		if old != nil && old.Status == c.Status {
			since = old.LastTransitionTime
		}
		if old == nil || old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message {
			changed = append(changed, c)
		}
		status.WithConditions(corev1apply.PodCondition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(cut(c.Message)).
			WithLastTransitionTime(since))
	}
	if len(changed) == 0 {
		return nil
	}
	wanted := corev1apply.Pod(pod.Name, pod.Namespace).WithUID(pod.UID).WithStatus(status)
	if err := a.Client.Status().Apply(ctx, wanted, client.FieldOwner(podFields), client.ForceOwnership); err != nil {
		return client.IgnoreNotFound(err)
	}
	for _, c := range changed {
		kind, action := corev1.EventTypeWarning, "Restore"
		switch c.Reason {
		case keys.RestoredFromCheckpoint, keys.CheckpointableProtected, keys.CheckpointableIOUringAllowed, keys.ColdNoCheckpoint, keys.ColdRestoreDisabled,
			keys.UnprotectedPaused: // which is ColdPaused as well
			kind = corev1.EventTypeNormal
		}
		if c.Type == keys.Checkpointable {
			action = "Protect"
		}
		a.Recorder.Eventf(pod, nil, kind, c.Reason, action, "%s", v1alpha1.EventNote(c.Message))
	}
	return nil
}
