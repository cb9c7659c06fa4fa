package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/install"
)

const (
	nodes      = 20
	namespaces = 20
	// perOwner is how many pods have the same controller.
	perOwner = 10
	atOnce   = 16
	// probes is how many pods are made at the end of a step, one after the other, to see what admission takes when nothing else goes on.
	probes = 200
)

// filler makes objects.
type filler struct {
	client      *kubernetes.Clientset
	checkpoints *versioned.Clientset
	owners      [][]metav1.Object // of each namespace
	pods, made  int               // so far
}

func namespaceOf(i int) string { return fmt.Sprintf("scale-%02d", i%namespaces) }

func nodeOf(i int) string { return fmt.Sprintf("none-%02d", i%nodes) }

// prepare makes the nodes, of which nobody is, and the namespaces.
func (f *filler) prepare(ctx context.Context) error {
	for i := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeOf(i)}, Spec: corev1.NodeSpec{Unschedulable: true}}
		if _, err := f.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for i := range namespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(i)}}
		if _, err := f.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := f.awaitServiceAccount(ctx, ns.Name); err != nil {
			return err
		}
	}
	f.owners = make([][]metav1.Object, namespaces)
	return nil
}

func (f *filler) awaitServiceAccount(ctx context.Context, ns string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := f.client.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// ownersUpTo makes what the pods have as their controller: a ConfigMap, which no other controller minds.
func (f *filler) ownersUpTo(ctx context.Context, pods int) error {
	for ns := range namespaces {
		for len(f.owners[ns])*perOwner*namespaces < pods {
			owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("owner-%d", len(f.owners[ns]))}}
			made, err := f.client.CoreV1().ConfigMaps(namespaceOf(ns)).Create(ctx, owner, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			f.owners[ns] = append(f.owners[ns], made)
		}
	}
	return nil
}

// pod is that of a number. Nothing evicts it when its node does not answer.
func (f *filler) pod(i int) *corev1.Pod {
	ns := i % namespaces
	owner := f.owners[ns][i/namespaces/perOwner%len(f.owners[ns])]
	pod := builder.MakePod(namespaceOf(i), fmt.Sprintf("pod-%06d", i)).Labelled().Node(nodeOf(i)).ControlledBy("v1", "ConfigMap", owner).Obj()
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	return pod
}

// step makes pods and Checkpoints until there are as many, waits until the manager has nothing to do, and says what that took.
func (f *filler) step(ctx context.Context, pods, checkpoints int) (row, error) {
	before, err := read(ctx, f.client)
	if err != nil {
		return row{}, err
	}
	began := time.Now()
	if err := f.ownersUpTo(ctx, pods); err != nil {
		return row{}, err
	}
	first := f.pods
	admitted := make([]time.Duration, pods-first)
	err = sideBySide(pods-first, func(i int) error { return f.makePod(ctx, first+i, &admitted[i]) })
	if err != nil {
		return row{}, err
	}
	f.pods = pods
	firstMade := f.made
	if err := sideBySide(checkpoints-firstMade, func(i int) error { return f.makeCheckpoint(ctx, firstMade+i) }); err != nil {
		return row{}, err
	}
	f.made = checkpoints
	if err := f.awaitQuiet(ctx); err != nil {
		return row{}, err
	}
	took := time.Since(began)
	after, err := read(ctx, f.client)
	if err != nil {
		return row{}, err
	}
	alone, err := f.probe(ctx)
	if err != nil {
		return row{}, err
	}
	r := after.since(before)
	r.Pods, r.Checkpoints, r.took = pods, checkpoints, took
	r.CreateP99 = percentile(admitted, 99).Seconds() * 1000
	r.AloneP50, r.AloneP99 = percentile(alone, 50).Seconds()*1000, percentile(alone, 99).Seconds()*1000
	r.RequestsPerPod = after.requests(before) / float64(pods-first)
	r.ReconcilesPerSecond = (after.reconciles - before.reconciles) / took.Seconds()
	return r, nil
}

// makePod makes a pod that is admitted, and says that it runs, as kubelet would.
func (f *filler) makePod(ctx context.Context, i int, admitted *time.Duration) error {
	pods := f.client.CoreV1().Pods(namespaceOf(i))
	began := time.Now()
	made, err := pods.Create(ctx, f.pod(i), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	*admitted = time.Since(began)
	if made.Spec.RuntimeClassName == nil {
		return fmt.Errorf("pod %s was not admitted", made.Name)
	}
	status := fmt.Appendf(nil, `{"status":{"phase":"Running","containerStatuses":[{"name":%q,"image":"none","imageID":"none","ready":true,"restartCount":0,
		"containerID":"containerd://1","state":{"running":{"startedAt":%q}}}]}}`, made.Spec.Containers[0].Name, time.Now().UTC().Format(time.RFC3339))
	_, err = pods.Patch(ctx, made.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
	return err
}

// makeCheckpoint makes one that is complete, of a pod that is no more.
func (f *filler) makeCheckpoint(ctx context.Context, i int) error {
	former := f.pod(i % f.pods)
	former.Name = fmt.Sprintf("former-%06d", i)
	former.UID = types.UID(fmt.Sprintf("%08d-51a8-4a0d-8a52-53b8e1d6e9f0", i))
	made, source := lineage.TerminationCheckpoint(former)
	all := f.checkpoints.CheckpointV1alpha1().Checkpoints(former.Namespace)
	made, err := all.Create(ctx, made, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now, size := metav1.Now(), int64(64<<20)
	made.Status.Source, made.Status.CaptureTime, made.Status.SizeBytes, made.Status.LocationName = &source, &now, &size, install.Location
	made.Status.ManifestDigest = "sha256:" + fmt.Sprintf("%064d", i)
	for _, kind := range []string{v1alpha1.CheckpointCaptured, v1alpha1.CheckpointUploaded} {
		meta.SetStatusCondition(&made.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, Message: "made"})
	}
	status, err := json.Marshal(map[string]any{"status": made.Status})
	if err != nil {
		return err
	}
	_, err = all.Patch(ctx, made.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status") // beside the manager, which has seen it by now
	return err
}

// awaitQuiet waits until the manager has had nothing to do for a while, and every Checkpoint is ready.
func (f *filler) awaitQuiet(ctx context.Context) error {
	quiet := 0
	for end := time.Now().Add(quietPatience); ; time.Sleep(2 * time.Second) {
		now, err := read(ctx, f.client)
		if err != nil {
			return err
		}
		if quiet++; now.waiting > 0 {
			quiet = 0
		}
		if quiet >= 5 {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("the manager has %.0f things to do after %s: %w", now.waiting, quietPatience, cmp.Or(ctx.Err(), context.DeadlineExceeded))
		}
	}
}

// probe has pods admitted that are not kept, while nothing else goes on.
func (f *filler) probe(ctx context.Context) (took []time.Duration, err error) {
	for i := range probes {
		pod := f.pod(i)
		pod.Name = fmt.Sprintf("probe-%06d", i)
		pod.Labels[keys.CheckpointMode] = keys.True
		began := time.Now()
		if _, err := f.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func sideBySide(many int, work func(i int) error) error {
	var all sync.WaitGroup
	errs, next := make([]error, atOnce), atomic.Int64{}
	for worker := range atOnce {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(many) && errs[worker] == nil; i = next.Add(1) - 1 {
				errs[worker] = work(int(i))
			}
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}

// percentile returns the value that p per cent are not above; 0 of nothing.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}
