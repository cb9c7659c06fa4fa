package report

import (
	"io"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// Availability says whether a location can be used, and why it cannot.
func Availability(l *v1alpha1.CheckpointStorageLocation) (reason, message string, available bool) {
	condition := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.LocationAvailable)
	if condition == nil {
		return "not seen yet", "", false
	}
	return condition.Reason, condition.Message, condition.Status == metav1.ConditionTrue
}

// WriteLocations lists locations for a person.
func WriteLocations(out io.Writer, locations []v1alpha1.CheckpointStorageLocation, now time.Time) error {
	used := v1alpha1.DefaultLocation(locations)
	rows := [][]string{{"NAME", "STATE", "ROLE", "ACCESS", "BUCKET", "ENDPOINT", "LAST-TRIED"}}
	for i := range locations {
		l := &locations[i]
		role := string(l.Spec.Role)
		if used != nil && used.Name == l.Name {
			role += " (in use)"
		}
		tried := none
		if at := l.Status.LastValidationTime; at != nil {
			tried = age(now, at.Time) + " ago"
		}
		bucket := l.Spec.Bucket
		if l.Spec.Prefix != "" {
			bucket += "/" + l.Spec.Prefix
		}
		reason, _, _ := Availability(l)
		rows = append(rows, []string{l.Name, reason, role, orNone(string(l.Spec.AccessMode)), bucket, l.Spec.Endpoint, tried})
	}
	return table(out, rows)
}
