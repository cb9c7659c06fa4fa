package matching

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestAPolicyOfAPersonGoesFirst(t *testing.T) {
	pod := newPod("new")
	all := []v1alpha1.RestorePolicy{
		{ObjectMeta: metav1.ObjectMeta{Name: "spawned"}, Spec: v1alpha1.RestorePolicySpec{Owner: &v1alpha1.Owner{UID: "web-uid"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v1alpha1.RestorePolicySpec{Selector: &metav1.LabelSelector{}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.RestorePolicySpec{Selector: &metav1.LabelSelector{}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "0"}, Spec: v1alpha1.RestorePolicySpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}}}},
	}
	if got := PolicyOf(pod, all); got == nil || got.Name != "a" {
		t.Errorf("%v applies", got)
	}
	if got := PolicyOf(pod, all[:1]); got == nil || got.Name != "spawned" {
		t.Errorf("%v applies", got)
	}
}

func TestPoliciesThatApplyStandInTheOrderInWhichTheyDecide(t *testing.T) {
	selecting := func(name string, age time.Duration) v1alpha1.RestorePolicy {
		return v1alpha1.RestorePolicy{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(testNow.Add(-age))},
			Spec:       v1alpha1.RestorePolicySpec{Selector: &metav1.LabelSelector{}},
		}
	}
	gone := selecting("gone", 9*time.Hour)
	gone.DeletionTimestamp = &metav1.Time{Time: testNow}
	wrong := selecting("wrong", 9*time.Hour)
	wrong.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
	spawned := v1alpha1.RestorePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "spawned", CreationTimestamp: metav1.NewTime(testNow.Add(-8 * time.Hour))},
		Spec:       v1alpha1.RestorePolicySpec{Owner: &v1alpha1.Owner{UID: "web-uid"}},
	}
	another := spawned
	another.Name, another.Spec.Owner = "another", &v1alpha1.Owner{UID: "db-uid"}
	all := []v1alpha1.RestorePolicy{spawned, another, selecting("b", time.Hour), selecting("a", time.Hour), selecting("old", 2*time.Hour), gone, wrong}
	var got []string
	for _, p := range Applying(newPod("new"), all) {
		got = append(got, p.Name)
	}
	if diff := cmp.Diff([]string{"old", "a", "b", "spawned"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOfSeveralCheckpointPoliciesTheOldestApplies(t *testing.T) {
	policy := func(name string, age time.Duration, labels map[string]string) v1alpha1.CheckpointPolicy {
		return v1alpha1.CheckpointPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(testNow.Add(-age))},
			Spec:       v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{MatchLabels: labels}},
		}
	}
	web := map[string]string{"app": "web"}
	going := policy("going", time.Hour, nil)
	going.DeletionTimestamp = &metav1.Time{Time: testNow}
	for name, test := range map[string]struct {
		policies []v1alpha1.CheckpointPolicy
		want     string
	}{
		"none":                           {},
		"one for other pods":             {policies: []v1alpha1.CheckpointPolicy{policy("a", 0, map[string]string{"app": "db"})}},
		"one for all":                    {policies: []v1alpha1.CheckpointPolicy{policy("a", 0, nil)}, want: "a"},
		"the oldest":                     {policies: []v1alpha1.CheckpointPolicy{policy("a", 0, nil), policy("b", time.Minute, web), going}, want: "b"},
		"of equally old ones the first":  {policies: []v1alpha1.CheckpointPolicy{policy("b", 0, nil), policy("a", 0, nil)}, want: "a"},
		"one without a selector is none": {policies: []v1alpha1.CheckpointPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if p := CheckpointPolicyOf(web, test.policies); p != nil {
				got = p.Name
			}
			if got != test.want {
				t.Errorf("%q applies, want %q", got, test.want)
			}
		})
	}
}
