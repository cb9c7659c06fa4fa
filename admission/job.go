package admission

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// AdmitJob changes a Job that is being made (design M6): pods that are deleted and captured, which have the condition DisruptionTarget, do not
// count as failures. It is for Jobs whose pods are to be captured, as asked has it, and that say nothing of failures themselves. An error refuses the
// Job; error and warnings are for the user.
func AdmitJob(job *batchv1.Job, asked settings.Settings) (warnings []string, err error) {
	if err := checkJobAnnotations(job.Annotations); err != nil {
		return nil, err
	}
	if job.Spec.Template.Annotations[keys.JobFailurePolicy] != "" {
		const misplaced = "annotation %s is on the pod template, where it does nothing; it belongs into the metadata of the Job"
		warnings = append(warnings, fmt.Sprintf(misplaced, keys.JobFailurePolicy))
	}
	if !isToBeIgnored(job, asked) {
		return warnings, nil
	}
	job.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
	// With a podFailurePolicy the API takes nothing else. What was here is mostly its own default, filled in before it asked us.
	job.Spec.PodReplacementPolicy = new(batchv1.Failed)
	return warnings, nil
}

// isToBeIgnored tells whether the failures of a Job's captured pods are to be ignored. The webhook's match conditions say nearly the same, so
// that other Jobs do not wait for us.
func isToBeIgnored(job *batchv1.Job, asked settings.Settings) bool {
	if !asked.Checkpoint || job.Annotations[keys.JobFailurePolicy] == keys.JobFailurePolicyKeep {
		return false
	}
	if job.Spec.PodFailurePolicy != nil || job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever { // the API allows it for no other
		return false
	}
	obstacle, _ := podspec.Obstacle(templateOf(job), asked.Selection(nil))
	return obstacle == "" // else its pods are not captured
}

// templateOf is what the pods of a Job are made from, as a pod.
func templateOf(job *batchv1.Job) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: job.Spec.Template.ObjectMeta, Spec: job.Spec.Template.Spec}
}

// checkJobAnnotations refuses values of our annotations on Jobs that mean nothing.
func checkJobAnnotations(annotations map[string]string) error {
	if value, found := annotations[keys.JobFailurePolicy]; found && value != keys.JobFailurePolicyKeep {
		return fmt.Errorf("annotation %s is %q; it may be %q", keys.JobFailurePolicy, value, keys.JobFailurePolicyKeep)
	}
	return nil
}
