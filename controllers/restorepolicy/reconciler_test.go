package restorepolicy

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestJudge(t *testing.T) {
	wrong := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
	for name, test := range map[string]struct {
		spec   v1alpha1.RestorePolicySpec
		status metav1.ConditionStatus
		reason string
	}{
		"of an owner":              {v1alpha1.RestorePolicySpec{Owner: &v1alpha1.Owner{}}, metav1.ConditionTrue, v1alpha1.RestorePolicyActive},
		"for all pods":             {v1alpha1.RestorePolicySpec{Selector: &metav1.LabelSelector{}}, metav1.ConditionTrue, v1alpha1.RestorePolicyActive},
		"switched off":             {v1alpha1.RestorePolicySpec{Mode: v1alpha1.RestoreDisabled}, metav1.ConditionFalse, v1alpha1.RestorePolicyDisabled},
		"an operator that is none": {v1alpha1.RestorePolicySpec{Selector: wrong}, metav1.ConditionFalse, v1alpha1.RestorePolicyInvalidSelector},
		"switched off and wrong anyhow": {v1alpha1.RestorePolicySpec{Selector: wrong, Mode: v1alpha1.RestoreDisabled},
			metav1.ConditionFalse, v1alpha1.RestorePolicyInvalidSelector},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(&v1alpha1.RestorePolicy{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: test.spec})
			if got.Status != test.status || got.Reason != test.reason || got.ObservedGeneration != 3 || got.Message == "" {
				t.Errorf("it is %+v", got)
			}
		})
	}
}
