package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// How long the runner waits.
const (
	startPatience = 2 * time.Minute
	checkPatience = 30 * time.Second
	endPatience   = 3 * time.Minute // of a pod; a failed capture leaves the program its grace period
)

// step is one deletion of a pod, and where the next one is made.
type step struct{ name, node string }

// steps are what every program goes through, from worker-1 on.
func steps() []step {
	return []step{{"same node", "worker-1"}, {"other node", "worker-2"}, {"third generation", "worker-1"}}
}

// runner runs programs on a cluster with the operator.
type runner struct {
	operator *install.Operator
	objects  client.Client
	say      func(format string, args ...any)
}

func newRunner(operator *install.Operator, say func(string, ...any)) (*runner, error) {
	log.SetLogger(logr.Discard())
	objects, err := client.New(operator.Cluster.Config, client.Options{})
	return &runner{operator: operator, objects: objects, say: say}, err
}

// Continues is the outcome of a program that is still itself.
const Continues = "continues"

// run takes a program through all steps and returns a row for each. It stops at the first one after which it is not what it was.
func (r *runner) run(ctx context.Context, p Program) (rows []Row) {
	ns := "fidelity-" + p.Name
	defer r.remove(context.WithoutCancel(ctx), ns)
	pod, err := r.begin(ctx, ns, p)
	if err != nil {
		return []Row{{Program: p.Name, About: p.About, Step: "start", Outcome: "did not start: " + err.Error(), Expect: p.Expect}}
	}
	for _, s := range steps() {
		row := Row{Program: p.Name, About: p.About, Step: s.name, Expect: p.Expect}
		next, err := r.take(ctx, p, pod, s, &row)
		row.Outcome = Continues
		if err != nil {
			row.Outcome = strings.Join(strings.Fields(err.Error()), " ")
		}
		r.say("%s, %s: %s", p.Name, s.name, row.Outcome)
		rows = append(rows, row)
		if err != nil {
			return rows
		}
		pod = next
	}
	return rows
}

// begin makes the program's namespace and first pod, and gives it its state.
func (r *runner) begin(ctx context.Context, ns string, p Program) (*Pod, error) {
	// That there is one already is no error: of a call that is made again, because its answer was lost, the first may have made it.
	if err := r.objects.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); client.IgnoreAlreadyExists(err) != nil {
		return nil, err
	}
	for _, object := range p.Objects {
		copied, ok := object.DeepCopyObject().(client.Object)
		if !ok {
			return nil, fmt.Errorf("%T is no object of the API", object)
		}
		copied.SetNamespace(ns)
		if err := r.objects.Create(ctx, copied); err != nil {
			return nil, err
		}
	}
	err := until(ctx, startPatience, func() error {
		return r.objects.Get(ctx, client.ObjectKey{Namespace: ns, Name: "default"}, &corev1.ServiceAccount{})
	})
	if err != nil {
		return nil, err
	}
	pod, err := r.start(ctx, ns, p, steps()[0].node)
	if err != nil {
		return nil, err
	}
	if p.Seed != nil {
		err = until(ctx, startPatience, func() error { return p.Seed(ctx, pod) })
	}
	if err == nil {
		err = until(ctx, startPatience, func() error { return p.Check(ctx, pod) })
	}
	return pod, err
}

// make makes a pod of the program on a node.
func (r *runner) make(ctx context.Context, ns string, p Program, node string) (*Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: "program", Annotations: p.Annotations, Labels: map[string]string{keys.CheckpointMode: keys.True},
		},
		Spec: p.Spec(p.Image.Name),
	}
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	return &Pod{Pod: pod, cluster: r.operator.Cluster}, r.objects.Create(ctx, pod)
}

// start makes a pod of the program on a node and waits until its containers run.
func (r *runner) start(ctx context.Context, ns string, p Program, node string) (*Pod, error) {
	made, err := r.make(ctx, ns, p, node)
	if err != nil {
		return nil, err
	}
	pod := made.Pod
	err = until(ctx, startPatience, func() error {
		if err := r.objects.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
			return fmt.Errorf("pod is %s: %s", pod.Status.Phase, r.events(ctx, pod))
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Running == nil {
				return fmt.Errorf("container %q does not run: %+v", c.Name, c.State)
			}
		}
		return nil
	})
	return made, err
}

// end deletes a pod and waits until it is gone.
func (r *runner) end(ctx context.Context, pod *Pod) error {
	if err := r.objects.Delete(ctx, pod.Pod); err != nil {
		return err
	}
	return until(ctx, endPatience, func() error {
		err := r.objects.Get(ctx, client.ObjectKeyFromObject(pod.Pod), &corev1.Pod{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("the old pod is still there"))
	})
}

// take deletes a pod, makes it again, and has the program checked. The error is what is to be said of it.
func (r *runner) take(ctx context.Context, p Program, old *Pod, s step, row *Row) (*Pod, error) {
	if err := p.Check(ctx, old); err != nil {
		return nil, fmt.Errorf("broken before the deletion: %w", err)
	}
	alarm := r.alarm(ctx, old)
	if err := r.end(ctx, old); err != nil {
		return nil, err
	}
	if err := r.captured(ctx, old, row); err != nil {
		return nil, err
	}
	next, err := r.start(ctx, old.Namespace, p, s.node)
	if err != nil {
		return nil, fmt.Errorf("the new pod does not start: %w", err)
	}
	next.Generation = old.Generation + 1
	if err := r.restored(ctx, next, row); err != nil {
		return nil, err
	}
	if err := until(ctx, checkPatience, func() error { return p.Check(ctx, next) }); err != nil {
		return nil, fmt.Errorf("broken: %w", err)
	}
	return next, alarm // as it goes on, whoever said that it cannot was wrong
}

// alarm says whether the operator took the pod, while it ran, for one that cannot be captured.
func (r *runner) alarm(ctx context.Context, pod *Pod) error {
	now := &corev1.Pod{}
	if err := r.objects.Get(ctx, client.ObjectKeyFromObject(pod.Pod), now); err != nil {
		return err
	}
	for _, c := range now.Status.Conditions {
		if c.Type == keys.Checkpointable && c.Status == corev1.ConditionFalse {
			return fmt.Errorf("false alarm: %s: %s", c.Reason, c.Message)
		}
	}
	return nil
}

// captured waits until the Checkpoint of a pod that is gone says what became of its capture.
func (r *runner) captured(ctx context.Context, pod *Pod, row *Row) error {
	name := v1alpha1.TerminationName(pod.Name, pod.UID)
	var failed error
	err := until(ctx, endPatience, func() error {
		checkpoint, err := r.operator.Checkpoints.CheckpointV1alpha1().Checkpoints(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		captured := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.CheckpointCaptured)
		switch {
		case captured == nil || captured.Reason == v1alpha1.StatePending || captured.Reason == v1alpha1.StateDumping:
			return errors.New("the capture is not done")
		case captured.Status != metav1.ConditionTrue:
			failed = fmt.Errorf("capture failed: %s: %s", captured.Reason, captured.Message)
		}
		if checkpoint.Status.Frozen != nil {
			row.FrozenMS = checkpoint.Status.Frozen.Milliseconds()
		}
		return nil
	})
	return errors.Join(failed, err)
}

// restored waits until the operator says what became of a pod.
func (r *runner) restored(ctx context.Context, pod *Pod, row *Row) error {
	var cold error
	err := until(ctx, startPatience, func() error {
		now := &corev1.Pod{}
		if err := r.objects.Get(ctx, client.ObjectKeyFromObject(pod.Pod), now); err != nil {
			return err
		}
		i := slices.IndexFunc(now.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == keys.Restored })
		if i < 0 {
			return errors.New("the pod does not say whether it was restored")
		}
		condition := now.Status.Conditions[i]
		if condition.Status != corev1.ConditionTrue {
			cold = fmt.Errorf("cold start: %s: %s", condition.Reason, condition.Message)
		}
		if _, text, found := strings.Cut(condition.Message, "restored in "); found {
			if took, err := time.ParseDuration(text); err == nil {
				row.RestoredMS = took.Milliseconds()
			}
		}
		return nil
	})
	return errors.Join(cold, err)
}

// events returns what was said of a pod, for whoever looks for a cause.
func (r *runner) events(ctx context.Context, pod *corev1.Pod) string {
	events, err := r.operator.Cluster.Client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		return err.Error()
	}
	var said []string
	for _, event := range events.Items {
		if event.Type == corev1.EventTypeWarning {
			said = append(said, event.Reason+": "+event.Message)
		}
	}
	return strings.Join(said, "; ")
}

// remove ends what is left of a program.
func (r *runner) remove(ctx context.Context, ns string) {
	zero := int64(0)
	err := r.operator.Cluster.Client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	if err != nil && !apierrors.IsNotFound(err) {
		r.say("remove namespace %s: %v", ns, err)
	}
}

// until calls check until it returns nil, and returns its last error after that time.
func until(ctx context.Context, patience time.Duration, check func() error) error {
	for end := time.Now().Add(patience); ; {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%w (for %s)", err, patience)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
