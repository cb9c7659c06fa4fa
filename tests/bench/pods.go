package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	container = "memory"
	patience  = 2 * time.Minute
	firstFew  = 5 // numbers that a pod counts before it is measured
)

// memoryPod is a pod of the program that is captured. It says nothing of checkpoints but by its labels.
func (d *driver) memoryPod(name, node string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels},
		Spec: corev1.PodSpec{
			NodeSelector:  map[string]string{corev1.LabelHostname: node},
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: container, Image: podImage, ImagePullPolicy: corev1.PullNever, Args: []string{"--mib=" + strconv.Itoa(d.mib)},
			}},
		},
	}
}

// start creates a pod and waits until it has counted beyond a number.
func (d *driver) start(ctx context.Context, pod *corev1.Pod, beyond int) (*corev1.Pod, error) {
	made, err := d.lab.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	err = poll(ctx, patience, "pod "+pod.Name+" counts", func() error {
		count, err := d.count(ctx, pod.Name)
		if err == nil && count <= beyond {
			err = fmt.Errorf("it is at %d, not beyond %d", count, beyond)
		}
		return err
	})
	return made, err
}

// count returns the last number that a pod wrote.
func (d *driver) count(ctx context.Context, name string) (int, error) {
	lines := int64(1)
	log, err := d.lab.Client.CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(log)), "count ")
	if !ok {
		return 0, fmt.Errorf("its last line is %q", log)
	}
	return strconv.Atoi(digits)
}

// remove ends a pod's process and removes the pod, so that nothing of it is left for the next step. A pod that ended by itself is not
// captured, which would go on in the background of what is measured next. That it is gone is no error.
func (d *driver) remove(ctx context.Context, name string) error {
	pods := d.lab.Client.CoreV1().Pods(namespace)
	err := poll(ctx, patience, "pod "+name+" ends", func() error {
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
			return err
		}
		if len(pod.Status.ContainerStatuses) > 0 && pod.Status.ContainerStatuses[0].State.Running != nil {
			id := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
			if err := d.on(ctx, pod.Spec.NodeName, &struct{}{}, "end", id); err != nil {
				return err
			}
		}
		if !pod.DeletionTimestamp.IsZero() {
			return nil
		}
		return fmt.Errorf("its phase is %q", pod.Status.Phase)
	})
	zero := int64(0)
	if err == nil {
		err = pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return d.awaitGone(ctx, name)
}

func (d *driver) awaitGone(ctx context.Context, name string) error {
	return poll(ctx, patience, "pod "+name+" is gone", func() error {
		_, err := d.lab.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is there")
		}
		return err
	})
}
