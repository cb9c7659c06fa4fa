package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// run is one run on a cluster.
type run struct {
	cluster  *lab.Cluster
	operator *install.Operator
	settings settings
	log      func(string, ...any)
	nodes    []string
	books    *books
	bucket   *bucket
	result   result
	// granted says that the fault of this cycle has hit a process.
	granted atomic.Bool
	// known are the lives of which it was said already that they are left, or lost.
	known map[string]bool
	// open are the pods that admission has not seen, which say so: their state is nobody's.
	open map[types.UID]bool
}

func newRun(cluster *lab.Cluster, operator *install.Operator, s settings, log func(string, ...any)) *run {
	return &run{
		cluster: cluster, operator: operator, settings: s, log: log, books: newBooks(), known: map[string]bool{}, open: map[types.UID]bool{},
		result: newResult(s),
	}
}

func (r *run) hit()    { r.granted.Store(true) }
func (r *run) missed() { r.granted.Store(false) }

// prepare takes away what a run before may have left, and makes the workloads.
func (r *run) prepare(ctx context.Context) error {
	status, err := r.cluster.ReadStatus(ctx)
	if err != nil {
		return err
	}
	for _, node := range status.Nodes {
		r.nodes = append(r.nodes, node.Name)
	}
	if err := errors.Join(r.unwish(ctx), r.onAll(ctx, "rm -f "+filler), enough(ctx, r, ""), r.uncordon(ctx)); err != nil {
		return err
	}
	namespaces := r.cluster.Client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := until(ctx, patience, func() error { _, err := namespaces.Create(ctx, made, metav1.CreateOptions{}); return err }); err != nil {
		return err
	}
	if err := r.prepareToPreempt(ctx); err != nil {
		return err
	}
	return r.makeWorkloads(ctx)
}

// cycles runs one cycle after the other until the time is over.
func (r *run) cycles(ctx context.Context) error {
	if err := r.awaitWhole(ctx, nil); err != nil {
		return fmt.Errorf("the workloads do not start: %w", err)
	}
	r.books.takeBeginnings() // those that have nothing to go on from
	p, end := newPlan(r.settings), time.Now().Add(time.Duration(r.settings.minutes*float64(time.Minute)))
	for n := 0; time.Now().Before(end) && (r.settings.cycles == 0 || n < r.settings.cycles) && ctx.Err() == nil; n++ {
		c := p.next()
		began := time.Now()
		r.granted.Store(c.Fault.step == "" && (c.Fault.lasts || c.Fault.name == "nothing"))
		err := r.cycle(ctx, c)
		took := time.Since(began)
		r.result.count(c, r.granted.Load(), took)
		r.log("%4d  %-60s %6.1fs%s", c.Number, c, took.Seconds(), map[bool]string{false: "  (not hit)"}[r.granted.Load()])
		if err != nil {
			return fmt.Errorf("cycle %d (%s): %w", c.Number, c, err)
		}
	}
	return ctx.Err()
}

// cycle does one thing, breaks another, mends it, and looks until all is as it was.
func (r *run) cycle(ctx context.Context, c cycle) error {
	before, err := r.pods(ctx, "="+kinds[c.Workload])
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return fmt.Errorf("the %s has no pods", kinds[c.Workload])
	}
	slices.SortFunc(before, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	victim := before[c.Pod%len(before)]
	node := victim.Spec.NodeName
	if c.Fault.step != "" {
		if err := r.wish(ctx, c.Fault.step); err != nil {
			return err
		}
	}
	fault := func() error {
		if c.Fault.begin == nil {
			return nil
		}
		return c.Fault.begin(ctx, r, node)
	}
	mend := func() error {
		if c.Fault.end == nil {
			return nil
		}
		if err := pause(ctx, c.Lasts); err != nil {
			return err
		}
		return c.Fault.end(ctx, r, node)
	}
	act := func() ([]corev1.Pod, error) { return r.act(ctx, c, before, victim) }
	var gone []corev1.Pod
	if c.Delay < 0 {
		err = errors.Join(fault(), pause(ctx, -c.Delay))
		acted := make(chan error, 1)
		go func() { // as long as the API server is away, it is tried again
			acted <- until(ctx, time.Minute, func() (err error) { gone, err = act(); return err })
		}()
		err = errors.Join(err, mend(), <-acted)
	} else {
		gone, err = act()
		if err == nil {
			err = errors.Join(pause(ctx, c.Delay), fault(), mend())
		}
	}
	if err == nil {
		err = r.awaitWhole(ctx, gone)
	}
	err = errors.Join(err, r.uncordon(ctx), r.makeRoom(ctx), r.unwish(ctx))
	if err != nil {
		return err
	}
	return r.judge(ctx, c)
}

// awaitWhole waits until each workload has its pods again, and each of them has told something, and those that were to go are gone.
func (r *run) awaitWhole(ctx context.Context, gone []corev1.Pod) error {
	return until(ctx, patience, func() error {
		list, err := r.cluster.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if slices.ContainsFunc(gone, func(g corev1.Pod) bool { return g.UID == pod.UID }) && pod.Status.Phase != corev1.PodFailed {
				return fmt.Errorf("pod %s is there still: it is %s", pod.Name, pod.Status.Phase)
			}
		}
		for _, kind := range kinds {
			live, err := r.pods(ctx, "="+kind)
			if err != nil {
				return err
			}
			if len(live) != r.many(kind) {
				return fmt.Errorf("the %s has %d pods", kind, len(live))
			}
			for i := range live {
				if !isRunning(&live[i]) {
					return fmt.Errorf("pod %s of node %s is %s: %s", live[i].Name, live[i].Spec.NodeName, live[i].Status.Phase, r.lastEvent(ctx, &live[i]))
				}
				if r.books.lastOf(live[i].UID) == 0 {
					return fmt.Errorf("pod %s has told nothing", live[i].Name)
				}
			}
		}
		return nil
	})
}

// lastEvent is what was said of a pod last.
func (r *run) lastEvent(ctx context.Context, pod *corev1.Pod) string {
	list, err := r.cluster.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil || len(list.Items) == 0 {
		return "nothing is said of it"
	}
	last := slices.MaxFunc(list.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return last.Reason + ": " + last.Message
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// until calls check until it returns nil, at most for as long as that.
func until(ctx context.Context, most time.Duration, check func() error) error {
	for end := time.Now().Add(most); ; {
		err := check()
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			if err != nil {
				err = fmt.Errorf("not after %s: %w", most, err)
			}
			return err
		}
		_ = pause(ctx, 250*time.Millisecond)
	}
}
