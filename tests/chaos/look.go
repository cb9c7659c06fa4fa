package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

const (
	// askInterval is how often each pod is asked, where there are few, and askPatience for how long. askPace is how long it takes from one to the next.
	askInterval = 300 * time.Millisecond
	askPace     = 50 * time.Millisecond
	askPatience = 5 * time.Second
	// tellPatience is how long it may take until what happened is told, and settlePatience until a state is in the bucket, or gone from it.
	tellPatience   = time.Minute
	settlePatience = 4 * time.Minute
)

// ask asks all pods for numbers until the context ends, each by one question at a time.
func (r *run) ask(ctx context.Context) {
	var all sync.WaitGroup
	var mu sync.Mutex
	busy := map[types.UID]bool{}
	for ctx.Err() == nil {
		live, err := r.pods(ctx, "")
		for _, pod := range live {
			mu.Lock()
			skip := busy[pod.UID] || !isRunning(&pod)
			if !skip {
				busy[pod.UID] = true
			}
			mu.Unlock()
			if skip {
				continue
			}
			all.Go(func() {
				r.askOne(ctx, &pod)
				mu.Lock()
				defer mu.Unlock()
				delete(busy, pod.UID)
			})
		}
		if err != nil {
			_ = pause(ctx, time.Second)
		}
		_ = pause(ctx, max(askInterval, time.Duration(len(live))*askPace))
	}
	all.Wait()
}

// askOne asks one pod. That it does not answer proves nothing.
func (r *run) askOne(ctx context.Context, pod *corev1.Pod) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	asked := time.Now()
	body, err := r.cluster.Client.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name + ":8080").
		SubResource("proxy").Suffix("next").DoRaw(ctx)
	switch {
	case strings.HasPrefix(string(body), "life "): // it has looked at itself
		r.books.violate("pod %s: %s", pod.Name, strings.TrimSpace(string(body)))
	case err == nil:
		var t told
		if err := json.Unmarshal(body, &t); err != nil {
			r.books.violate("pod %s answers %q", pod.Name, body)
			return
		}
		now, err := r.cluster.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil && now.UID == pod.UID { // else another pod has the name by now, as in a StatefulSet, and nobody knows which of them answered
			r.books.note(holderOf(pod), t, asked)
		}
	}
}

// judge looks at what a cycle has left: the pods that began from scratch say so, and no state is lost.
func (r *run) judge(ctx context.Context, c cycle) error {
	for _, b := range r.books.takeBeginnings() {
		if err := r.judgeBeginning(ctx, c, b); err != nil {
			return err
		}
	}
	live, err := r.pods(ctx, "")
	if err != nil {
		return err
	}
	var holders []holder
	for i := range live {
		holders = append(holders, holderOf(&live[i]))
	}
	for name, last := range r.books.without(holders) {
		if r.known[name] {
			continue
		}
		r.known[name] = true
		if err := r.judgeLeft(ctx, c, name, last); err != nil {
			return err
		}
	}
	return nil
}

// judgeBeginning looks whether a pod that began from scratch says why: condition and event.
func (r *run) judgeBeginning(ctx context.Context, c cycle, b beginning) error {
	reason := ""
	err := until(ctx, tellPatience, func() error {
		pod, err := r.cluster.Client.CoreV1().Pods(namespace).Get(ctx, b.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && pod.UID != b.uid {
			reason = "gone"
			return nil
		}
		if err != nil {
			return err
		}
		said := podspec.Condition(pod, keys.Restored)
		if pod.Spec.RuntimeClassName == nil {
			said = podspec.Condition(pod, keys.Checkpointable)
		}
		if said == nil || said.Status != corev1.ConditionFalse {
			return fmt.Errorf("it says %+v", said)
		}
		events, err := r.cluster.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(b.uid)})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(events.Items, func(e corev1.Event) bool { return e.Reason == said.Reason }) {
			return fmt.Errorf("no event has the reason %s", said.Reason)
		}
		reason = said.Reason
		return nil
	})
	if err != nil && ctx.Err() == nil {
		r.books.violate("cycle %d (%s): pod %s began from scratch and does not say why: %v", c.Number, c, b.name, err)
		return nil
	}
	r.result.cold(reason)
	r.open[b.uid] = reason == keys.UnprotectedNotAdmitted
	r.log("      pod %s began from scratch: %s", b.name, reason)
	return ctx.Err()
}

// judgeLeft looks what became of a life that no pod goes on with: its state is there for the next one, or it is lost, which only few faults may bring.
func (r *run) judgeLeft(ctx context.Context, c cycle, life string, last holder) error {
	verdict := ""
	err := until(ctx, settlePatience, func() error {
		name := v1alpha1.TerminationName(last.name, last.uid)
		checkpoint, err := r.operator.Checkpoints.CheckpointV1alpha1().Checkpoints(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			verdict = "there is no Checkpoint " + name
			return nil
		}
		if err != nil {
			return err
		}
		ready := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.CheckpointReady)
		switch {
		case checkpoint.Status.Claim != nil:
			verdict = fmt.Sprintf("Checkpoint %s is %s by pod %s, which does not speak for it", name, checkpoint.Status.Claim.Phase, checkpoint.Status.Claim.PodName)
		case ready != nil && ready.Status == metav1.ConditionTrue:
			verdict = ""
		case ready != nil && slices.Contains([]string{v1alpha1.StateFailed, v1alpha1.StateDiscarded, v1alpha1.StateExpired}, ready.Reason):
			verdict = fmt.Sprintf("Checkpoint %s is %s: %s", name, ready.Reason, ready.Message)
		default:
			return fmt.Errorf("the Checkpoint %s is not settled: %+v", name, ready)
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		verdict = err.Error()
	case verdict == "":
		r.result.Left++
		return nil
	}
	r.log("      life %s, last of pod %s, is lost: %s", life, last.name, verdict)
	if c.Fault.loses || r.open[last.uid] {
		r.result.Lost++
		return nil
	}
	r.books.violate("cycle %d (%s): life %s, last of pod %s, is lost: %s", c.Number, c, life, last.name, verdict)
	return nil
}

// quiet waits until every Checkpoint has come to its end.
func (r *run) quiet(ctx context.Context) error {
	err := until(ctx, settlePatience, func() error {
		list, err := r.operator.Checkpoints.CheckpointV1alpha1().Checkpoints(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var going []string
		for i := range list.Items {
			ready := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.CheckpointReady)
			if ready == nil || slices.Contains([]string{v1alpha1.StatePending, v1alpha1.StateDumping, v1alpha1.StateUploading}, ready.Reason) {
				going = append(going, list.Items[i].Name)
			}
		}
		if len(going) > 0 {
			return fmt.Errorf("not done are the Checkpoints %s", strings.Join(going, ", "))
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		r.books.violate("at the end: %v", err)
	}
	return ctx.Err()
}

// leaveNothing deletes the namespace, and looks for what is left of it anywhere then.
func (r *run) leaveNothing(ctx context.Context) error {
	if err := r.cluster.Client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil {
		return err
	}
	err := until(ctx, settlePatience, func() error {
		if _, err := r.cluster.Client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return errors.Join(err, errors.New("the namespace is there still"))
		}
		objects, err := r.operator.Objects(ctx, "")
		if err != nil {
			return err
		}
		for _, o := range objects {
			if strings.Contains("/"+o.Key, "/"+namespace+"/") {
				return fmt.Errorf("the bucket has %s still", o.Key)
			}
		}
		for _, node := range r.nodes {
			left, err := r.on(ctx, node, leftovers)
			if err != nil {
				return err
			}
			if left = strings.TrimSpace(left); left != "" {
				return fmt.Errorf("on node %s is still:\n%s", node, left)
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		r.books.violate("at the end: %v", err)
	}
	return ctx.Err()
}

// leftovers prints what a node has of pods and work that are no more.
const leftovers = `
ls -d /var/lib/checkpoint/captures/*/* /var/lib/checkpoint/restores/* /run/checkpoint/signals/* 2>/dev/null
grep -o ' /[^ ]*checkpoint/\(captures\|restores\)[^ ]* ' /proc/self/mountinfo
for f in $(grep -lxE 'criu|checkpoint-runt' /proc/[0-9]*/comm 2>/dev/null); do echo "process $(tr '\0' ' ' < ${f%/comm}/cmdline)"; done
true`
