package matching

import (
	"testing"

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
