package report

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// availability says whether a location can be used, and why it cannot.
func availability(l *v1alpha1.CheckpointStorageLocation) (reason string, available bool) {
	condition := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.LocationAvailable)
	if condition == nil {
		return "not seen yet", false
	}
	return condition.Reason, condition.Status == metav1.ConditionTrue
}
