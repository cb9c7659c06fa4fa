package checkpointpolicy

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestJudge(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pods := []*corev1.Pod{
		{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}, InitContainers: []corev1.Container{{Name: "once"}}}},
		{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}, InitContainers: []corev1.Container{{Name: "log", RestartPolicy: &always}}}},
	}
	locations := []v1alpha1.CheckpointStorageLocation{
		{ObjectMeta: metav1.ObjectMeta{Name: "archive"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "museum"}, Spec: v1alpha1.CheckpointStorageLocationSpec{AccessMode: v1alpha1.AccessReadOnly}},
	}
	for name, test := range map[string]struct {
		spec v1alpha1.CheckpointPolicySpec
		pods []*corev1.Pod
		want string
		says string
	}{
		"it says nothing": {pods: pods, want: v1alpha1.CheckpointPolicyActive},
		"a selector that cannot be understood": {
			spec: v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}},
			want: v1alpha1.CheckpointPolicyInvalidSelector, says: "Near",
		},
		"containers that some pods have": {
			spec: v1alpha1.CheckpointPolicySpec{Containers: &v1alpha1.ContainerSelection{Exclude: []string{"log"}}}, pods: pods, want: v1alpha1.CheckpointPolicyActive,
		},
		"containers that none has": {
			spec: v1alpha1.CheckpointPolicySpec{Containers: &v1alpha1.ContainerSelection{Include: []string{"web", "once", "db"}}}, pods: pods,
			want: v1alpha1.CheckpointPolicyUnknownContainers, says: `containers.include names "once", "db", which none of its pods has; they have "log", "web"`,
		},
		"containers of pods that are still to come": {
			spec: v1alpha1.CheckpointPolicySpec{Containers: &v1alpha1.ContainerSelection{Include: []string{"db"}}}, want: v1alpha1.CheckpointPolicyActive,
		},
		"a hook in a container that none has": {
			spec: v1alpha1.CheckpointPolicySpec{Hooks: &v1alpha1.CheckpointHooks{
				PreCheckpoint: []v1alpha1.Hook{{Container: "web"}, {}}, PostCheckpoint: []v1alpha1.Hook{{Container: "db"}},
			}},
			pods: pods, want: v1alpha1.CheckpointPolicyUnknownContainers,
			says: `hooks.postCheckpoint names "db", which none of its pods has; they have "log", "web"`,
		},
		"a location":            {spec: v1alpha1.CheckpointPolicySpec{StorageLocation: "archive"}, want: v1alpha1.CheckpointPolicyActive},
		"one that is only read": {spec: v1alpha1.CheckpointPolicySpec{StorageLocation: "museum"}, want: v1alpha1.CheckpointPolicyLocationReadOnly, says: "museum"},
		"one that there is not": {spec: v1alpha1.CheckpointPolicySpec{StorageLocation: "attic"}, want: v1alpha1.CheckpointPolicyLocationNotFound, says: "attic"},
		"it is paused":          {spec: v1alpha1.CheckpointPolicySpec{Paused: true}, pods: pods, want: v1alpha1.CheckpointPolicyPaused},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &v1alpha1.CheckpointPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: test.spec}
			if policy.Spec.Selector == nil {
				policy.Spec.Selector = &metav1.LabelSelector{}
			}
			ready := judge(policy, test.pods, locations)
			isTrue := ready.Status == metav1.ConditionTrue
			if ready.Reason != test.want || !strings.Contains(ready.Message, test.says) || isTrue != (test.want == v1alpha1.CheckpointPolicyActive) {
				t.Errorf("it is %+v", ready)
			}
		})
	}
}
