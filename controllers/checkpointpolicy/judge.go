package checkpointpolicy

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/periodic"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// judge is the rule: the condition Ready of a policy, by the pods that it applies to and the locations that there are.
func judge(policy *v1alpha1.CheckpointPolicy, pods []*corev1.Pod, locations []v1alpha1.CheckpointStorageLocation) metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.CheckpointPolicyReady, Status: metav1.ConditionFalse, ObservedGeneration: policy.Generation}
	if _, err := metav1.LabelSelectorAsSelector(policy.Spec.Selector); err != nil {
		ready.Reason, ready.Message = v1alpha1.CheckpointPolicyInvalidSelector, fmt.Sprintf("it applies to no pod: %v", err)
		return ready
	}
	for _, named := range named(&policy.Spec) {
		if message := unknown(named.field, named.containers, pods); message != "" {
			ready.Reason, ready.Message = v1alpha1.CheckpointPolicyUnknownContainers, message
			return ready
		}
	}
	if t := policy.Spec.Triggers; t != nil && t.Schedule != nil {
		if _, err := periodic.Parse(t.Schedule); err != nil {
			ready.Reason, ready.Message = v1alpha1.CheckpointPolicyInvalidSchedule, err.Error()
			return ready
		}
	}
	if policy.Spec.StorageLocation != "" {
		if _, reason, message := v1alpha1.UploadLocation(policy, locations); reason != "" {
			ready.Reason, ready.Message = reason, message
			return ready
		}
	}
	if policy.Spec.Paused {
		ready.Reason, ready.Message = v1alpha1.CheckpointPolicyPaused, "its pods are not captured, as paused says; they are restored from what there is"
		return ready
	}
	ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, v1alpha1.CheckpointPolicyActive, "its pods are captured as it says"
	return ready
}

// naming is a field that names containers.
type naming struct {
	field      string
	containers []string
}

// named are the fields of a policy that name containers.
func named(spec *v1alpha1.CheckpointPolicySpec) (all []naming) {
	if s := spec.Containers; s != nil {
		all = append(all, naming{"containers.include", s.Include}, naming{"containers.exclude", s.Exclude})
	}
	if h := spec.Hooks; h != nil {
		all = append(all, naming{"hooks.preCheckpoint", containersOf(h.PreCheckpoint)}, naming{"hooks.postCheckpoint", containersOf(h.PostCheckpoint)})
	}
	return all
}

// containersOf are the containers that hooks name.
func containersOf(hooks []v1alpha1.Hook) (names []string) {
	for _, h := range hooks {
		if h.Container != "" && !slices.Contains(names, h.Container) {
			names = append(names, h.Container)
		}
	}
	return names
}

// unknown says which containers a field names that none of the pods of its policy has, and which they have. Without pods nothing is known.
func unknown(field string, named []string, pods []*corev1.Pod) string {
	if len(pods) == 0 {
		return ""
	}
	var has []string
	for _, pod := range pods {
		for _, c := range podspec.Lasting(pod) {
			if !slices.Contains(has, c.Name) {
				has = append(has, c.Name)
			}
		}
	}
	missing := slices.DeleteFunc(slices.Clone(named), func(name string) bool { return slices.Contains(has, name) })
	if len(missing) == 0 {
		return ""
	}
	slices.Sort(has)
	return fmt.Sprintf("%s names %s, which none of its pods has; they have %s", field, quoted(missing), quoted(has))
}

// most bounds the names in a message.
const most = 20

func quoted(names []string) string {
	rest := len(names) - most
	quoted := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	if rest > 0 {
		quoted = append(quoted, fmt.Sprintf("and %d more", rest))
	}
	return strings.Join(quoted, ", ")
}
