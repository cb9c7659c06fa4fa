package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// act ends pods, and returns those that are to go. It may be called again where it failed.
func (r *run) act(ctx context.Context, c cycle, of []corev1.Pod, victim corev1.Pod) (gone []corev1.Pod, err error) {
	gone = []corev1.Pod{victim}
	switch c.Action {
	case several:
		gone = of[:min(c.Many, len(of))]
	case drain, preemption:
		all, err := r.pods(ctx, "")
		if err != nil {
			return nil, err
		}
		gone = slices.DeleteFunc(all, func(p corev1.Pod) bool { return p.Spec.NodeName != victim.Spec.NodeName })
	}
	switch c.Action {
	case preemption:
		return gone, r.preempt(ctx, victim.Spec.NodeName, gone)
	case drain:
		if err := r.cordon(ctx, victim.Spec.NodeName, true); err != nil {
			return nil, err
		}
	case live:
		if err := r.captureLive(ctx, &victim, fmt.Sprintf("%d-%d", r.settings.seed, c.Number)); err != nil {
			return nil, err
		}
		if err := pause(ctx, c.Lasts/10); err != nil { // a capture that the pod goes on after takes as long
			return nil, err
		}
	}
	for i := range gone {
		if err := r.remove(ctx, &gone[i], c.Action == eviction || c.Action == drain); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// remove deletes or evicts a pod, unless it is gone already.
func (r *run) remove(ctx context.Context, pod *corev1.Pod, evict bool) error {
	pods := r.cluster.Client.CoreV1().Pods(namespace)
	only := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}}
	var err error
	if evict {
		err = pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: namespace}, DeleteOptions: &only})
	} else {
		err = pods.Delete(ctx, pod.Name, only)
	}
	if apierrors.IsConflict(err) { // another pod has the name by now
		return nil
	}
	return unlessGone(err)
}

// captureLive asks for a capture of a pod that goes on.
func (r *run) captureLive(ctx context.Context, pod *corev1.Pod, wish string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"annotations":{%q:%q}}}`, pod.UID, keys.CheckpointTrigger, wish)
	_, err := r.cluster.Client.CoreV1().Pods(namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsConflict(err) {
		return nil
	}
	return unlessGone(err)
}

func (r *run) cordon(ctx context.Context, node string, yes bool) error {
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, yes)
	_, err := r.cluster.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (r *run) uncordon(ctx context.Context) error {
	for _, node := range r.nodes {
		if err := until(ctx, time.Minute, func() error { return r.cordon(ctx, node, false) }); err != nil {
			return err
		}
	}
	return nil
}

// Seats are what pods are preempted for: each node has so many, a pod takes one, and who is more important takes them all.
const (
	seat         = "chaos.test/seat"
	seatsOfANode = 60
	preemptor    = "preemptor" // a pod, and its PriorityClass
	// preemptPatience is how long the scheduler may take.
	preemptPatience = 30 * time.Second
)

func seats(many int64) corev1.ResourceRequirements {
	list := corev1.ResourceList{seat: *resource.NewQuantity(many, resource.DecimalSI)}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

// prepareToPreempt gives the nodes their seats.
func (r *run) prepareToPreempt(ctx context.Context) error {
	patch := fmt.Appendf(nil, `{"status":{"capacity":{%q:"%d"}}}`, seat, seatsOfANode)
	for _, node := range r.nodes {
		if _, err := r.cluster.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: preemptor}, Value: 1000}
	_, err := r.cluster.Client.SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// preempt has the scheduler end those pods of a node, for one that needs all of it.
func (r *run) preempt(ctx context.Context, node string, of []corev1.Pod) error {
	pods := r.cluster.Client.CoreV1().Pods(namespace)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: preemptor}, Spec: corev1.PodSpec{
		PriorityClassName: preemptor, NodeSelector: map[string]string{corev1.LabelHostname: node},
		Containers: []corev1.Container{{Name: "witness", Image: witnessImage, ImagePullPolicy: corev1.PullNever, Resources: seats(seatsOfANode)}},
	}}
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	err := until(ctx, preemptPatience, func() error {
		for i := range of {
			now, err := pods.Get(ctx, of[i].Name, metav1.GetOptions{})
			if err == nil && now.UID == of[i].UID && now.DeletionTimestamp.IsZero() {
				return fmt.Errorf("pod %s is not preempted", now.Name)
			}
			if unlessGone(err) != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, r.makeRoom(ctx))
}

// makeRoom takes away the pod that the others had to go for.
func (r *run) makeRoom(ctx context.Context) error {
	now := int64(0)
	return until(ctx, time.Minute, func() error {
		return unlessGone(r.cluster.Client.CoreV1().Pods(namespace).Delete(ctx, preemptor, metav1.DeleteOptions{GracePeriodSeconds: &now}))
	})
}
