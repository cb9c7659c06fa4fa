package retention

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestIsReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		set        func(*appsv1.ReplicaSet)
		deployment func(*appsv1.Deployment)
		want       bool
	}{
		"the rollout is complete":              {want: true},
		"it is the one that is wanted":         {set: func(s *appsv1.ReplicaSet) { s.Annotations[Revision] = "2" }},
		"it has a pod left":                    {set: func(s *appsv1.ReplicaSet) { s.Status.Replicas = 1 }},
		"it shall have one":                    {set: func(s *appsv1.ReplicaSet) { s.Spec.Replicas = new(int32(1)) }},
		"the new pods do not run":              {deployment: func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 1 }},
		"there are old pods":                   {deployment: func(d *appsv1.Deployment) { d.Status.Replicas = 3 }},
		"the Deployment has just been changed": {deployment: func(d *appsv1.Deployment) { d.Generation = 6 }},
		"its controller has not seen it":       {deployment: func(d *appsv1.Deployment) { d.Annotations = nil }},
		"both are scaled to zero": {want: true, deployment: func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Status = new(int32(0)), appsv1.DeploymentStatus{ObservedGeneration: 5}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			set := &appsv1.ReplicaSet{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{Revision: "1"}}, Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0))},
			}
			deployment := &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Generation: 5, Annotations: map[string]string{Revision: "2"}}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))},
				Status: appsv1.DeploymentStatus{ObservedGeneration: 5, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2},
			}
			if test.set != nil {
				test.set(set)
			}
			if test.deployment != nil {
				test.deployment(deployment)
			}
			if got := isReplaced(set, deployment); got != test.want {
				t.Errorf("it is: %t", got)
			}
		})
	}
}
