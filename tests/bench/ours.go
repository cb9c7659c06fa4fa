package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// measureOurs deletes a labelled pod, waits until its state is in the bucket, makes the pod again on the other node and proves that it went on.
func (d *driver) measureOurs(ctx context.Context, number int) (err error) {
	if d.referenceOnly {
		return nil
	}
	name := fmt.Sprintf("ours-%d", number+1)
	if err := d.forget(ctx, name); err != nil { // what a run that was broken off may have left
		return err
	}
	defer func() { err = errors.Join(err, d.forget(context.WithoutCancel(ctx), name)) }()
	labels := map[string]string{keys.CheckpointMode: keys.True}
	pod, err := d.start(ctx, d.memoryPod(name, d.node, labels), firstFew)
	if err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	last, err := d.count(ctx, name)
	if err != nil {
		return err
	}
	uploading := d.watchAgent(ctx, d.node)
	deleted := time.Now()
	if err := d.lab.Client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	checkpoint, err := d.awaitUploaded(ctx, v1alpha1.TerminationName(name, pod.UID))
	if err != nil {
		return err
	}
	durable := time.Since(deleted)
	sending, err := uploading()
	if err != nil {
		return err
	}
	if checkpoint.Status.Frozen == nil {
		return errors.New("the Checkpoint does not say for how long the pod was frozen")
	}
	if err := d.awaitGone(ctx, name); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	fetching := d.watchAgent(ctx, d.other)
	created := time.Now()
	restored, err := d.start(ctx, d.memoryPod(name, d.other, labels), last)
	if err != nil {
		return err
	}
	running := time.Since(created)
	getting, err := fetching()
	if err != nil {
		return err
	}
	result, err := d.provenRestore(ctx, restored)
	if err != nil {
		return err
	}
	say("pair %d: frozen %v, deleted to durable %v; created to running on the other node %v, of which %v to restore", number+1,
		short(checkpoint.Status.Frozen.Duration), short(durable), short(running), short(result.Total))
	say("pair %d: RssAnon of the agents: %d MiB where it uploads, %d where it fetches", number+1, sending, getting)
	d.ours.add(captureFrozen, checkpoint.Status.Frozen.Duration)
	d.ours.add(deleteToDurable, durable)
	d.ours.add(fromBucket, running)
	d.ours.add(restoreTotal, result.Total)
	return nil
}

// watchAgent looks at the memory of a node's agent, until it is asked how many MiB that was at most.
func (d *driver) watchAgent(ctx context.Context, node string) func() (int64, error) {
	most, came := int64(0), make(chan error)
	go func() { came <- d.on(ctx, node, &most, "watch", "agent") }()
	return func() (int64, error) {
		err := d.on(ctx, node, &struct{}{}, "stop-watching")
		return most, errors.Join(err, <-came)
	}
}

// awaitUploaded waits for the state of a Checkpoint to be in the bucket.
func (d *driver) awaitUploaded(ctx context.Context, name string) (checkpoint *v1alpha1.Checkpoint, err error) {
	client := d.checkpoints.CheckpointV1alpha1().Checkpoints(namespace)
	err = poll(ctx, patience, "Checkpoint "+name+" is uploaded", func() error {
		if checkpoint, err = client.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(checkpoint.Status.Conditions, v1alpha1.CheckpointUploaded) {
			return fmt.Errorf("its conditions are %+v", checkpoint.Status.Conditions)
		}
		return nil
	})
	return checkpoint, err
}

// provenRestore returns what the runtime wrote of the restore of a pod, which the pod's condition has to confirm: a cold start is no restore.
func (d *driver) provenRestore(ctx context.Context, pod *corev1.Pod) (*capture.Result, error) {
	err := poll(ctx, patience, "pod "+pod.Name+" says that it was restored", func() error {
		now, err := d.lab.Client.CoreV1().Pods(namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range now.Status.Conditions {
			if condition.Type == keys.Restored && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", now.Status.Conditions)
	})
	if err != nil {
		return nil, err
	}
	result := &capture.Result{}
	if err := d.on(ctx, d.other, result, "result", string(pod.UID)); err != nil {
		return nil, err
	}
	if result.Outcome != capture.Restored {
		return nil, fmt.Errorf("the outcome of the restore is %q: %s", result.Outcome, result.Message)
	}
	return result, nil
}

// forget removes a pod and the Checkpoints of all pods of that name, with their data.
func (d *driver) forget(ctx context.Context, name string) error {
	if err := d.remove(ctx, name); err != nil {
		return err
	}
	client := d.checkpoints.CheckpointV1alpha1().Checkpoints(namespace)
	return poll(ctx, patience, "Checkpoints of "+name+" are gone", func() error {
		all, err := client.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		left := 0
		for i := range all.Items {
			if all.Items[i].Spec.SourcePodName != name {
				continue
			}
			left++
			if err := client.Delete(ctx, all.Items[i].Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
		if left > 0 {
			return fmt.Errorf("%d are there", left)
		}
		return nil
	})
}

// settle has the node write what earlier steps left, lest the next one pays for it. What was deleted from the bucket goes first: MinIO keeps it for minutes,
// and then removes it beside whatever is measured.
func (d *driver) settle(ctx context.Context) error {
	deleted, err := os.ReadDir(d.trash)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range deleted {
		if err := os.RemoveAll(filepath.Join(d.trash, entry.Name())); err != nil {
			return err
		}
	}
	return d.onNode(ctx, &struct{}{}, "settle")
}
