package jobs

import (
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// killed is the exit code of a captured container: its processes are killed while they are frozen.
const killed = 137

// Outlook is what the end of a captured pod means for its Job.
type Outlook struct {
	// Action is what the Job makes of it: Ignore, Count, or FailJob or FailIndex at once.
	Action batchv1.PodFailurePolicyAction
	// Failed is how many failures count by now, this one included, where the Action is Count.
	Failed int32
	// Limit is what more failures than end the Job, or the index.
	Limit int32
	// Field is where in the Job the limit stands: backoffLimit or backoffLimitPerIndex.
	Field string
	// Index is that of the pod, where each index has a limit of its own.
	Index string
}

// Left is how many more pods can be deleted and resumed before Job or index has failed. Below 0 this one is not resumed.
func (o Outlook) Left() int32 { return o.Limit - o.Failed }

// OutlookOf says what the end of a pod means that is captured and deleted. Of a Job that is over, is suspended, or is being deleted there is
// nothing to say: ok is false. Pod and Job are as of one moment.
func OutlookOf(job *batchv1.Job, pod *corev1.Pod) (o Outlook, ok bool) {
	if isOver(job) || job.Spec.BackoffLimit == nil {
		return o, false
	}
	if o.Action = actionOn(job.Spec.PodFailurePolicy, pod); o.Action != batchv1.PodFailurePolicyActionCount {
		return o, true
	}
	failed := job.Status.Failed
	isCounted := !IsTracked(pod)
	if uncounted := job.Status.UncountedTerminatedPods; uncounted != nil {
		failed += int32(len(uncounted.Failed))
		isCounted = isCounted || slices.Contains(uncounted.Failed, pod.UID)
	}
	if !isCounted {
		failed++
	} else if failed == 0 { // its finalizer was taken off since the Job does not want the pod any more
		return o, false
	}
	o.Failed, o.Limit, o.Field = failed, *job.Spec.BackoffLimit, "backoffLimit"
	if perIndex := job.Spec.BackoffLimitPerIndex; perIndex != nil {
		before, _ := strconv.ParseInt(pod.Annotations[batchv1.JobIndexFailureCountAnnotation], 10, 32) // without it there was none
		if *perIndex-int32(before)-1 < o.Left() {
			o.Failed, o.Limit, o.Field, o.Index = int32(before)+1, *perIndex, "backoffLimitPerIndex", pod.Annotations[batchv1.JobCompletionIndexAnnotation]
		}
	}
	return o, true
}

// isOver tells whether no pod of a Job is resumed any more, or for now.
func isOver(job *batchv1.Job) bool {
	if !job.DeletionTimestamp.IsZero() || job.Spec.Suspend != nil && *job.Spec.Suspend {
		return true
	}
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet:
			return c.Status == corev1.ConditionTrue
		}
		return false
	})
}

// actionOn is what the first rule says that fits a captured pod, and Count without one.
func actionOn(policy *batchv1.PodFailurePolicy, pod *corev1.Pod) batchv1.PodFailurePolicyAction {
	if policy == nil {
		return batchv1.PodFailurePolicyActionCount
	}
	for _, rule := range policy.Rules {
		if rule.OnExitCodes != nil && fitsExitCode(rule.OnExitCodes, pod) || rule.OnExitCodes == nil && fitsCondition(rule.OnPodConditions, pod) {
			return rule.Action
		}
	}
	return batchv1.PodFailurePolicyActionCount
}

// captured are the containers of a pod that are captured, as admission has written down; of one that it has not seen, those that would be.
func captured(pod *corev1.Pod) []*corev1.Container {
	settings, err := capture.ParseSettings(pod.Annotations[keys.Effective])
	if err != nil {
		return podspec.Selected(pod, nil)
	}
	return slices.DeleteFunc(podspec.Lasting(pod), func(c *corev1.Container) bool { return !settings.Selects(c.Name) })
}

// fitsExitCode tells whether a captured container will have ended as a rule says, or another one has. How those end that are not captured
// nobody can know.
func fitsExitCode(rule *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.Pod) bool {
	codes := map[string]int32{}
	for _, c := range captured(pod) {
		codes[c.Name] = killed
	}
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if end := s.State.Terminated; end != nil {
			codes[s.Name] = end.ExitCode
		}
	}
	for name, code := range codes {
		if code == 0 || rule.ContainerName != nil && *rule.ContainerName != name {
			continue
		}
		if slices.Contains(rule.Values, code) == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return true
		}
	}
	return false
}

// fitsCondition tells whether a pod has a condition of which a rule speaks, given that it has or gets DisruptionTarget.
func fitsCondition(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, pod *corev1.Pod) bool {
	return slices.ContainsFunc(patterns, func(p batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
		if p.Type == corev1.DisruptionTarget && podspec.Condition(pod, corev1.DisruptionTarget) == nil {
			return p.Status == corev1.ConditionTrue
		}
		return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == p.Type && c.Status == p.Status })
	})
}
