package retention

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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

func TestAPlainPodThatWasDeletedHasNotDoneItsWork(t *testing.T) {
	deleted := &metav1.Time{Time: now.Add(30 * time.Second)} // when the grace period ends that began now
	for name, test := range map[string]struct {
		deleted  *metav1.Time
		grace    int64 // more than 30
		finished time.Time
		phase    corev1.PodPhase
		owner    []metav1.OwnerReference
		want     bool
	}{
		"it ended by itself":                       {finished: now, phase: corev1.PodSucceeded, want: true},
		"it ended by itself, and is deleted":       {deleted: deleted, finished: now.Add(-time.Minute), phase: corev1.PodSucceeded, want: true},
		"it ended upon its deletion":               {deleted: deleted, finished: now.Add(2 * time.Second), phase: corev1.PodSucceeded},
		"it ended in the second of its deletion":   {deleted: deleted, finished: now.Truncate(time.Second), phase: corev1.PodSucceeded},
		"it ended upon its deletion, and goes now": {deleted: &metav1.Time{Time: now}, grace: -30, finished: now.Add(-2 * time.Second), phase: corev1.PodSucceeded},
		"it has failed":                            {finished: now, phase: corev1.PodFailed},
		"it has a controller, which knows better":  {finished: now, phase: corev1.PodSucceeded, owner: []metav1.OwnerReference{{Controller: new(true)}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: test.deleted, OwnerReferences: test.owner}}
			if test.deleted != nil {
				pod.DeletionGracePeriodSeconds = new(30 + test.grace)
			}
			pod.Status = corev1.PodStatus{Phase: test.phase, ContainerStatuses: []corev1.ContainerStatus{{
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Time{Time: test.finished}}},
			}}}
			if got := isPlainAndDone(pod); got != test.want {
				t.Errorf("it is done: %t", got)
			}
		})
	}
}
