package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/storage"
)

// The life of a claim (docs/designs/0008-claims.md), tried out: the real agents, on nodes of their own, against one API server and with runtimes that
// do what the real one writes down. An agent dies before or after each of its writes, the runtime is anywhere by then, pods go in between; what must
// hold is checked at every restored instruction and when all have come to rest.

// world is all that outlives a process.
type world struct {
	t     *testing.T
	api   client.WithWatch
	store *memory
	// checkpoint is what the pods can be restored from.
	checkpoint client.ObjectKey
	roots      map[string]string
	// ran are the pods in which an instruction of the captured program ran.
	ran []types.UID
	// plan is what becomes of the restores in a pod, the first one first; without one they succeed.
	plan map[types.UID][]ending
}

// ending is how one attempt of the runtime ends.
type ending string

const (
	succeeds        ending = ""
	failsBefore     ending = "fails before anything ran"
	diesBefore      ending = "is killed before anything ran"
	diesAfterItsRun ending = "is killed after something ran"
)

// origin is a world's beginning: one Checkpoint in the bucket.
type origin struct {
	checkpoint *v1alpha1.Checkpoint
	objects    map[string][]byte
}

func newOrigin(t *testing.T) origin {
	t.Helper()
	pod := newPod("a")
	b := noted(t, pod)
	b.look(b.captured(pod, "1", capture.Complete))
	c := b.checkpoint("a-a-uid")
	if !isTrue(c, v1alpha1.CheckpointUploaded) {
		t.Fatalf("it is not uploaded: %+v", c.Status.Conditions)
	}
	c.ResourceVersion = ""
	return origin{c, b.store.objects}
}

func (o origin) world(t *testing.T, plan map[types.UID][]ending, pods ...*corev1.Pod) *world {
	t.Helper()
	objects := []client.Object{o.checkpoint.DeepCopy()}
	for _, pod := range pods {
		objects = append(objects, pod)
	}
	b := newBench(t, objects...)
	return &world{
		t: t, api: b.Client.(client.WithWatch), store: &memory{objects: o.objects}, checkpoint: client.ObjectKeyFromObject(o.checkpoint),
		roots: map[string]string{}, plan: plan,
	}
}

// pending is a pod whose sandbox waits for the decision.
func pending(p *corev1.Pod) {
	p.Status.Phase, p.Spec.Containers = corev1.PodPending, []corev1.Container{{Name: "app"}}
}

// death is what an agent that is killed panics with.
type death struct{}

// agent starts the agent of a node. Call is called before and after each of its writes to the API server: between two of them lies all that it does on
// its disk, and its reads leave nothing behind.
func (w *world) agent(node string, call func(after bool)) *Agent {
	if w.roots[node] == "" {
		w.roots[node] = w.t.TempDir()
	}
	if call == nil {
		call = func(bool) {}
	}
	around := func(do func() error) error {
		call(false)
		err := do()
		call(true)
		return err
	}
	counted := interceptor.NewClient(w.api, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return around(func() error { return c.Create(ctx, o, opts...) })
		},
		SubResourceApply: func(ctx context.Context, c client.Client, kind string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			return around(func() error {
				if err := w.admit(ctx, o); err != nil {
					return err
				}
				return c.SubResource(kind).Apply(ctx, o, opts...)
			})
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, kind string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return around(func() error { return c.SubResource(kind).Patch(ctx, o, p, opts...) })
		},
	})
	return &Agent{
		Node: capture.Node{Root: w.roots[node]}, NodeName: node, Namespace: "operator", Client: counted, Everywhere: counted, Recorder: events.NewFakeRecorder(1000),
		Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return w.store, nil
		},
		Now: func() time.Time { return testNow }, stores: map[string]storage.Store{}, noted: map[types.UID]int{},
		work: map[string]*publication{}, ahead: map[string]*ahead{}, fetches: make(chan struct{}, fetchesAtOnce), nearlyFull: func(string) bool { return false },
		Settle: func(context.Context, string) error { return nil },
	}
}

// admit keeps the rule of the schema that a claim cannot pass from one pod to another (tests/integration has it on a real API server).
func (w *world) admit(ctx context.Context, applied runtime.ApplyConfiguration) error {
	data, err := json.Marshal(applied)
	if err != nil {
		return err
	}
	var wanted v1alpha1.Checkpoint // of a pod that is applied only the kind is read
	if err := json.Unmarshal(data, &wanted); err != nil || wanted.Kind != "Checkpoint" || wanted.Status.Claim == nil {
		return err
	}
	var there v1alpha1.Checkpoint
	if err := w.api.Get(ctx, client.ObjectKeyFromObject(&wanted), &there); err != nil {
		return err
	}
	old := there.Status.Claim
	if old != nil && (old.PodUID != wanted.Status.Claim.PodUID || old.Phase == v1alpha1.ClaimConsumed && wanted.Status.Claim.Phase != v1alpha1.ClaimConsumed) {
		return apierrors.NewInvalid(schema.GroupKind{Group: v1alpha1.SchemeGroupVersion.Group, Kind: "Checkpoint"}, wanted.Name, nil)
	}
	return nil
}

// turn has an agent look at a pod once, as its controller or its tidying would. It tells whether the agent lived through it.
func (w *world) turn(a *Agent, pod *corev1.Pod) (alive bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, died := r.(death); !died {
				panic(r)
			}
			alive = false
		}
	}()
	var err error
	if w.exists(pod) {
		_, err = a.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
	} else if _, statErr := os.Stat(a.Node.Restores(string(pod.UID))); statErr == nil {
		err = a.settleGone(w.t.Context(), string(pod.UID))
	}
	if err != nil {
		w.t.Logf("agent of %s: %v", a.NodeName, err)
	}
	return true
}

func (w *world) exists(pod *corev1.Pod) bool {
	err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{})
	return err == nil
}

// step has the runtime of a node take the next step for a pod, and tells whether there was one. Each leaves behind what the real one does.
func (w *world) step(node string, pod *corev1.Pod) bool {
	n := capture.Node{Root: w.roots[node]}
	uid := string(pod.UID)
	d, err := n.Decision(uid)
	if err != nil || d.Action == capture.Cold || !w.exists(pod) {
		return false
	}
	result, err := n.Result(uid, "app")
	how := succeeds
	if plan := w.plan[pod.UID]; len(plan) > 0 {
		how = plan[0]
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.write(n, uid, capture.Result{Outcome: capture.Attempted})
	case err != nil:
		w.t.Fatal(err)
	case result.Outcome != capture.Attempted:
		return false
	case how == failsBefore:
		w.write(n, uid, capture.Result{Outcome: capture.RestoreFailed})
	case how == diesBefore: // the next create undoes it, and tries again
		w.plan[pod.UID] = w.plan[pod.UID][1:]
		if err := os.Remove(n.ResultFile(uid, "app")); err != nil {
			w.t.Fatal(err)
		}
	case !result.Consumed:
		if err := os.WriteFile(n.BegunFile(uid, "app"), nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.runs(pod)
	case how == diesAfterItsRun:
		w.write(n, uid, capture.Result{Outcome: capture.RestoreFailed, Consumed: true})
	default:
		w.write(n, uid, capture.Result{Outcome: capture.Restored, Consumed: true})
	}
	return true
}

func (w *world) write(n capture.Node, podUID string, r capture.Result) {
	r.SchemaVersion, r.Container, r.ContainerID, r.Started = capture.SchemaVersion, "app", "id", testNow
	if err := capture.NoteJSON(n.ResultFile(podUID, "app"), r); err != nil {
		w.t.Fatal(err)
	}
}

// runs notes that an instruction of the captured program runs in a pod. It is the moment at which most must hold.
func (w *world) runs(pod *corev1.Pod) {
	if len(w.ran) > 0 {
		w.t.Errorf("the state runs in pod %s, and has run in %v", pod.UID, w.ran)
	}
	w.ran = append(w.ran, pod.UID)
	if claim := w.claim(); claim == nil || claim.PodUID != pod.UID {
		w.t.Errorf("the state runs in pod %s, and the claim is %+v", pod.UID, claim)
	}
}

func (w *world) claim() *v1alpha1.CheckpointClaim {
	c := &v1alpha1.Checkpoint{}
	if err := w.api.Get(context.Background(), w.checkpoint, c); err != nil {
		w.t.Fatal(err)
	}
	return c.Status.Claim
}

// rest has agent and runtime of a node work for a pod until there is nothing left to do.
func (w *world) rest(a *Agent, pod *corev1.Pod) {
	quiet := 0
	for range 20 {
		w.turn(a, pod)
		if w.step(a.NodeName, pod) || !w.settled(a, pod) {
			quiet = 0
			continue
		}
		if quiet++; quiet == 2 {
			return
		}
	}
}

// settled tells whether nothing is left to do for a pod, as far as it shows.
func (w *world) settled(a *Agent, pod *corev1.Pod) bool {
	if w.exists(pod) {
		return w.saysRestored(pod) != ""
	}
	return !isThere(a.Node.Restores(string(pod.UID)))
}

// saysRestored is the pod's condition; empty while there is none.
func (w *world) saysRestored(pod *corev1.Pod) corev1.ConditionStatus {
	now := &corev1.Pod{}
	if err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		w.t.Fatal(err)
	}
	if c := podspec.Condition(now, keys.Restored); c != nil {
		return c.Status
	}
	return ""
}

// check is what must hold when all have come to rest.
func (w *world) check(pods ...*corev1.Pod) {
	w.t.Helper()
	claim := w.claim()
	switch {
	case len(w.ran) == 0 && claim != nil:
		w.t.Errorf("nothing ran, and the claim is %+v", claim)
	case len(w.ran) > 0 && (claim == nil || claim.PodUID != w.ran[0] || claim.Phase != v1alpha1.ClaimConsumed):
		w.t.Errorf("it ran in %v, and the claim is %+v", w.ran, claim)
	}
	for _, pod := range pods {
		if w.exists(pod) && w.saysRestored(pod) == "" {
			w.t.Errorf("pod %s does not say what became of it", pod.Name)
		}
	}
}

func (w *world) remove(pod *corev1.Pod) {
	if err := w.api.Delete(w.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}); err != nil {
		w.t.Fatal(err)
	}
}

// dies is a counter of calls that kills the agent at the n-th crossing: before a call, or after it. It tells whether it came so far.
func dies(n int) (call func(bool), dead *bool) {
	crossings, dead := 0, new(bool)
	return func(bool) {
		if crossings++; crossings == n+1 {
			*dead = true
			panic(death{})
		}
	}, dead
}

// TestAClaimSurvivesTheDeathOfItsAgentAnywhere kills the agent before and after each of its writes, with the runtime at each of its steps, and the
// pod there or gone when the agent is back. Then another pod comes on another node: it is restored exactly if nothing ran in the first.
func TestAClaimSurvivesTheDeathOfItsAgentAnywhere(t *testing.T) {
	o := newOrigin(t)
	tried := 0
	for _, plan := range [][]ending{{succeeds}, {failsBefore}, {diesBefore, succeeds}, {diesBefore, failsBefore}, {diesAfterItsRun}} {
		for steps := range 4 {
			for _, gone := range []bool{false, true} {
				for crossing := 0; ; crossing++ {
					far := false
					what := fmt.Sprintf("%q, %d steps of the runtime, pod gone %t, death at %d", plan, steps, gone, crossing)
					t.Run(what, func(t *testing.T) { far = tryDeath(t, o, plan, steps, gone, crossing) })
					if tried++; !far || t.Failed() {
						break
					}
				}
			}
		}
	}
	t.Logf("%d ways", tried)
}

func tryDeath(t *testing.T, o origin, plan []ending, steps int, gone bool, crossing int) (far bool) {
	first, second := newPod("first", pending), newPod("second", pending)
	w := o.world(t, map[types.UID][]ending{first.UID: append([]ending(nil), plan...)}, first)
	call, dead := dies(crossing)
	a := w.agent("worker-1", call)
	for range 6 {
		if !w.turn(a, first) {
			break
		}
		w.step("worker-1", first)
	}
	for range steps { // it goes on while there is no agent
		w.step("worker-1", first)
	}
	if gone {
		w.remove(first)
	}
	w.rest(w.agent("worker-1", nil), first)
	w.check(first)
	before := len(w.ran)
	if err := w.api.Create(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if !gone { // what failed there is not in flight
		w.remove(first)
		w.rest(w.agent("worker-1", nil), first)
	}
	w.rest(w.agent("worker-2", nil), second)
	w.check(second)
	if len(w.ran) != 1 || before == 0 && w.ran[0] != second.UID {
		t.Errorf("it ran in %v", w.ran)
	}
	return *dead
}

// TestOfTwoPodsOneIsRestored stops one agent before or after each of its writes, lets another do all its work meanwhile, and then has the first go on,
// or die and come back.
func TestOfTwoPodsOneIsRestored(t *testing.T) {
	o := newOrigin(t)
	tried := 0
	for _, dead := range []bool{false, true} {
		for crossing := 0; ; crossing++ {
			far := false
			t.Run(fmt.Sprintf("stopped at %d, dead %t", crossing, dead), func(t *testing.T) { far = tryTwo(t, o, crossing, dead) })
			if tried++; !far || t.Failed() {
				break
			}
		}
	}
	t.Logf("%d ways", tried)
}

func tryTwo(t *testing.T, o origin, crossing int, dead bool) (far bool) {
	one, two := newPod("one", pending), newPod("two", pending)
	w := o.world(t, nil, one, two)
	stopped, resume, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	crossings := 0
	a := w.agent("worker-1", func(bool) {
		if crossings++; crossings == crossing+1 {
			close(stopped)
			<-resume
			if dead {
				panic(death{})
			}
		}
	})
	go func() {
		defer close(done)
		for range 6 {
			if !w.turn(a, one) {
				return
			}
			w.step("worker-1", one)
		}
	}()
	select {
	case <-stopped:
		far = true
		w.rest(w.agent("worker-2", nil), two)
		close(resume)
		<-done
	case <-done:
	}
	w.rest(w.agent("worker-1", nil), one)
	w.rest(w.agent("worker-2", nil), two)
	w.check(one, two)
	if len(w.ran) != 1 {
		t.Errorf("it ran in %v", w.ran)
	}
	return far
}
