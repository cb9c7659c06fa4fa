package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	checkpointinformers "github.com/transparent-checkpoint/operator/generated/informers/externalversions"
)

// timeline watches the pods and Checkpoints of a namespace and remembers when it saw what: conditions have a resolution of a second only.
type timeline struct {
	mu          sync.Mutex
	pods        map[types.UID]*corev1.Pod
	checkpoints map[types.UID]*v1alpha1.Checkpoint // by the UID of their pod
	seen        map[mark]time.Time
}

// mark is something that happens once to a pod.
type mark struct {
	what string
	pod  types.UID
}

const (
	created  = "created"
	ended    = "ended" // for good, by its phase: from then on the Job controller waits before it makes another
	gone     = "gone"
	captured = "captured"
	uploaded = "uploaded"
)

func watch(ctx context.Context, config *rest.Config, namespace string) (*timeline, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	own, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	t := &timeline{pods: map[types.UID]*corev1.Pod{}, checkpoints: map[types.UID]*v1alpha1.Checkpoint{}, seen: map[mark]time.Time{}}
	core := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	_, err = core.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: t.pod, UpdateFunc: func(_, pod any) { t.pod(pod) }, DeleteFunc: t.podGone,
	})
	if err != nil {
		return nil, err
	}
	ours := checkpointinformers.NewSharedInformerFactoryWithOptions(own, 0, checkpointinformers.WithNamespace(namespace))
	_, err = ours.Checkpoint().V1alpha1().Checkpoints().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: t.checkpoint, UpdateFunc: func(_, checkpoint any) { t.checkpoint(checkpoint) }, DeleteFunc: t.checkpointGone,
	})
	if err != nil {
		return nil, err
	}
	core.Start(ctx.Done())
	ours.Start(ctx.Done())
	core.WaitForCacheSync(ctx.Done())
	ours.WaitForCacheSync(ctx.Done())
	return t, ctx.Err()
}

func (t *timeline) markOnce(what string, pod types.UID) {
	if _, ok := t.seen[mark{what, pod}]; !ok {
		t.seen[mark{what, pod}] = time.Now()
	}
}

func (t *timeline) pod(object any) {
	pod := object.(*corev1.Pod)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods[pod.UID] = pod
	t.markOnce(created, pod.UID)
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		t.markOnce(ended, pod.UID)
	}
}

func (t *timeline) podGone(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod := object.(*corev1.Pod)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, pod.UID)
	t.markOnce(ended, pod.UID) // at the latest; a watch may leave out what was only for a moment
	t.markOnce(gone, pod.UID)
}

func (t *timeline) checkpoint(object any) {
	checkpoint := object.(*v1alpha1.Checkpoint)
	pod := checkpoint.Spec.SourcePodUID
	t.mu.Lock()
	defer t.mu.Unlock()
	t.checkpoints[pod] = checkpoint
	if meta.IsStatusConditionTrue(checkpoint.Status.Conditions, v1alpha1.CheckpointCaptured) {
		t.markOnce(captured, pod)
	}
	if meta.IsStatusConditionTrue(checkpoint.Status.Conditions, v1alpha1.CheckpointUploaded) {
		t.markOnce(uploaded, pod)
	}
}

func (t *timeline) checkpointGone(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.checkpoints, object.(*v1alpha1.Checkpoint).Spec.SourcePodUID)
}

// when tells when something was seen to happen to a pod; ok is false if it was not.
func (t *timeline) when(what string, pod types.UID) (at time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok = t.seen[mark{what, pod}]
	return at, ok
}

// live returns a pod as it is now, or nil.
func (t *timeline) live(uid types.UID) *corev1.Pod {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pods[uid]
}

// of returns the Checkpoint of a pod, or nil.
func (t *timeline) of(pod types.UID) *v1alpha1.Checkpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.checkpoints[pod]
}

// podOf returns a pod that an owner made, but not one of those that are excepted, or nil.
func (t *timeline) podOf(owner types.UID, except ...types.UID) *corev1.Pod {
	t.mu.Lock()
	defer t.mu.Unlock()
next:
	for uid, pod := range t.pods {
		for _, other := range except {
			if uid == other {
				continue next
			}
		}
		for _, reference := range pod.OwnerReferences {
			if reference.UID == owner {
				return pod
			}
		}
	}
	return nil
}

// finalError is one that waiting does not change.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// final has await give up at once.
func final(err error) error { return finalError{err} }

// await calls check until it returns nil, and returns its last error when it has not in that time.
func await(ctx context.Context, patience time.Duration, check func() error) error {
	began := time.Now()
	for {
		err := check()
		if _, isFinal := errors.AsType[finalError](err); err == nil || isFinal {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > patience {
			return fmt.Errorf("not within %s: %w", patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
