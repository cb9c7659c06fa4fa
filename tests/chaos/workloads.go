package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// namespace has the workloads.
const namespace = "chaos"

// kinds are the workloads. A Job is none of them: its controller waits longer before each new pod, up to ten minutes.
var kinds = []string{"deployment", "statefulset", "daemonset"}

// many is how many pods a workload has.
func (r *run) many(kind string) int {
	if kind == "daemonset" {
		return len(r.nodes)
	}
	return r.settings.pods
}

// template is that of their pods: a label says that it is captured, and nothing else is of us. Each takes a seat.
func (r *run) template(workload string) corev1.PodTemplateSpec {
	witness := corev1.Container{
		Name: "witness", Image: witnessImage, ImagePullPolicy: corev1.PullNever, Args: []string{fmt.Sprintf("--mib=%d", r.settings.memory)}, Resources: seats(1),
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"workload": workload, keys.CheckpointMode: keys.True}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{witness}},
	}
}

// makeWorkloads creates the workloads.
func (r *run) makeWorkloads(ctx context.Context) error {
	client := r.cluster.Client
	for _, kind := range kinds {
		pods, selector := r.template(kind), &metav1.LabelSelector{MatchLabels: map[string]string{"workload": kind}}
		about := metav1.ObjectMeta{Name: kind, Namespace: namespace}
		many := int32(r.settings.pods) //nolint:gosec // main checks it
		var err error
		switch kind {
		case "deployment":
			d := &appsv1.Deployment{ObjectMeta: about, Spec: appsv1.DeploymentSpec{Replicas: &many, Selector: selector, Template: pods}}
			_, err = client.AppsV1().Deployments(namespace).Create(ctx, d, metav1.CreateOptions{})
		case "statefulset":
			s := &appsv1.StatefulSet{ObjectMeta: about, Spec: appsv1.StatefulSetSpec{
				Replicas: &many, Selector: selector, Template: pods, PodManagementPolicy: appsv1.ParallelPodManagement,
			}}
			_, err = client.AppsV1().StatefulSets(namespace).Create(ctx, s, metav1.CreateOptions{})
		case "daemonset":
			d := &appsv1.DaemonSet{ObjectMeta: about, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: pods}}
			_, err = client.AppsV1().DaemonSets(namespace).Create(ctx, d, metav1.CreateOptions{})
		}
		if err != nil {
			return fmt.Errorf("create the %s: %w", kind, err)
		}
	}
	return nil
}

// pods are those of the workloads that are there and not on their way out.
func (r *run) pods(ctx context.Context, workload string) (live []corev1.Pod, err error) {
	list, err := r.cluster.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "workload" + workload})
	if err != nil {
		return nil, err
	}
	for _, pod := range list.Items {
		if pod.DeletionTimestamp.IsZero() && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			live = append(live, pod)
		}
	}
	return live, nil
}

func isRunning(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].State.Running != nil
}

func holderOf(pod *corev1.Pod) holder { return holder{pod.Namespace, pod.Name, pod.UID} }
