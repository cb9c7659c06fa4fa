package pod

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

const namespace = "ns"

func jobPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "work-abcde", UID: "0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e",
			Labels:      map[string]string{keys.CheckpointMode: keys.True},
			Annotations: map[string]string{keys.Effective: `{"schemaVersion":1}`},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "batch/v1", Kind: "Job", Name: "work", UID: "job-uid", Controller: new(true), BlockOwnerDeletion: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "worker-1", RuntimeClassName: new(keys.RuntimeClass), Containers: []corev1.Container{{Name: "main", Image: "i"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func terminating(pod *corev1.Pod) {
	pod.DeletionTimestamp, pod.Finalizers = new(metav1.Now()), []string{"test/kept"} // as kubelet keeps it
}

func restored(status corev1.ConditionStatus, reason string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: keys.Restored, Status: status, Reason: reason})
	}
}

func newReconciler(t *testing.T, objects ...client.Object) (*Reconciler, *events.FakeRecorder) {
	t.Helper()
	scheme := clientgoscheme.Scheme
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	kept := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&corev1.Pod{}, &v1alpha1.Checkpoint{}, &v1alpha1.RestorePolicy{}).Build()
	recorder := events.NewFakeRecorder(20)
	return &Reconciler{Client: kept, Live: kept, Events: recorder, Now: func() time.Time { return time.Unix(1e9, 0) }}, recorder
}

func reconcile(t *testing.T, r *Reconciler, pod *corev1.Pod) {
	t.Helper()
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(pod)}); err != nil {
		t.Fatal(err)
	}
}

func TestATerminatedPodGetsItsCheckpoint(t *testing.T) {
	pod := jobPod(terminating)
	r, _ := newReconciler(t, pod)
	reconcile(t, r, pod)
	reconcile(t, r, pod)
	wanted, source := lineage.TerminationCheckpoint(pod)
	made := &v1alpha1.Checkpoint{}
	if err := r.Get(t.Context(), client.ObjectKeyFromObject(wanted), made); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&source, made.Status.Source); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wanted.OwnerReferences, made.OwnerReferences); diff != "" {
		t.Errorf("owner (-want +got):\n%s", diff)
	}
}

// deleted tells a reconciler that a pod is gone, as its watch does.
func deleted(t *testing.T, r *Reconciler, pod *corev1.Pod) {
	t.Helper()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[ctrl.Request]())
	defer queue.ShutDown()
	r.gone.handler().Delete(t.Context(), event.DeleteEvent{Object: pod}, queue)
	for queue.Len() > 0 {
		request, _ := queue.Get()
		if _, err := r.Reconcile(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		queue.Done(request)
	}
}

func TestAPodThatIsDeletedByForceGetsItsCheckpoint(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want int
	}{
		"it ran":                         {jobPod(), 1},
		"it ended in peace before":       {jobPod(terminating, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), 0},
		"it had not started":             {jobPod(func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }), 0},
		"it slipped past admission":      {jobPod(func(p *corev1.Pod) { p.Annotations = nil }), 0},
		"it was terminated when it went": {jobPod(terminating), 1},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newReconciler(t)
			deleted(t, r, test.pod)
			reconcile(t, r, test.pod) // it is forgotten by now
			all := &v1alpha1.CheckpointList{}
			if err := r.List(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			if len(all.Items) != test.want || len(r.gone.pods) != 0 {
				t.Errorf("there are %d Checkpoints, %d pods are remembered", len(all.Items), len(r.gone.pods))
			}
			_, source := lineage.TerminationCheckpoint(test.pod)
			for _, c := range all.Items {
				if diff := cmp.Diff(&source, c.Status.Source); diff != "" {
					t.Errorf("source (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestPodsWithoutACheckpoint(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"it is not terminated":        func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = nil, nil },
		"it has ended by itself":      func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
		"it has failed":               func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed },
		"it slipped past admission":   func(p *corev1.Pod) { p.Annotations = nil },
		"it has another RuntimeClass": func(p *corev1.Pod) { p.Spec.RuntimeClassName = new("kata") },
		"it has not started":          func(p *corev1.Pod) { p.Status.ContainerStatuses = nil },
		"its label says no":           func(p *corev1.Pod) { p.Labels[keys.CheckpointMode] = keys.False },
	} {
		t.Run(name, func(t *testing.T) {
			pod := jobPod(terminating, change)
			r, _ := newReconciler(t, pod)
			reconcile(t, r, pod)
			all := &v1alpha1.CheckpointList{}
			if err := r.List(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			if len(all.Items) != 0 {
				t.Errorf("it got %s", all.Items[0].Name)
			}
		})
	}
}

func TestAPolicyIsSpawnedOnceAndKept(t *testing.T) {
	pod := jobPod()
	r, _ := newReconciler(t, pod)
	reconcile(t, r, pod)
	policy := &v1alpha1.RestorePolicy{}
	key := client.ObjectKey{Namespace: namespace, Name: "job-work"}
	if err := r.Get(t.Context(), key, policy); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "work", UID: "job-uid"}}, policy.OwnerReferences); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	policy.Spec.Mode = v1alpha1.RestoreDisabled
	if err := r.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	reconcile(t, r, pod)
	if err := r.Get(t.Context(), key, policy); err != nil {
		t.Fatal(err)
	}
	if policy.Spec.Mode != v1alpha1.RestoreDisabled {
		t.Error("what a person changed was overwritten")
	}
}

func TestNamesOfPolicies(t *testing.T) {
	if got := policyName("StatefulSet", "db"); got != "statefulset-db" {
		t.Error(got)
	}
	long, other := policyName("ReplicaSet", strings.Repeat("a", 60)), policyName("ReplicaSet", strings.Repeat("a", 61))
	if len(long) > 63 || len(other) > 63 || long == other {
		t.Errorf("%s and %s", long, other)
	}
}

func TestWhyAPodIsNotProtected(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		nodes  []client.Object
		want   string
	}{
		"it is":                     {change: func(*corev1.Pod) {}},
		"it slipped past admission": {change: func(p *corev1.Pod) { p.Annotations, p.Spec.RuntimeClassName = nil, nil }, want: keys.UnprotectedNotAdmitted},
		"another RuntimeClass":      {change: func(p *corev1.Pod) { p.Spec.RuntimeClassName = new("kata") }, want: keys.UnprotectedOtherRuntimeClass},
		"a mirror pod": {
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, want: keys.UnprotectedMirrorPod},
		"it has a GPU": {change: func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
		}, want: keys.UnprotectedDevice},
		"no node is ready": {change: func(p *corev1.Pod) { p.Spec.NodeName = "" }, want: keys.UnprotectedNoReadyNode},
		"a node is ready": {
			change: func(p *corev1.Pod) { p.Spec.NodeName = "" },
			nodes:  []client.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{keys.NodeReady: keys.True}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := jobPod(test.change)
			r, told := newReconciler(t, append(test.nodes, pod)...)
			reconcile(t, r, pod)
			if got := reasonOf(t, r, pod); got != test.want {
				t.Errorf("the reason is %q and should be %q", got, test.want)
			}
			if test.want == "" {
				return
			}
			if event := <-told.Events; !strings.HasPrefix(event, "Warning "+test.want) {
				t.Error(event)
			}
			reconcile(t, r, pod)
			if len(told.Events) != 0 {
				t.Errorf("told again: %s", <-told.Events)
			}
		})
	}
}

func TestAReasonGoesWhenANodeIsReady(t *testing.T) {
	pod := jobPod(func(p *corev1.Pod) { p.Spec.NodeName = "" })
	r, _ := newReconciler(t, pod)
	reconcile(t, r, pod)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{keys.NodeReady: keys.True}}}
	if err := r.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	reconcile(t, r, pod)
	if got := reasonOf(t, r, pod); got != "" {
		t.Errorf("it still says %s", got)
	}
}

func reasonOf(t *testing.T, r *Reconciler, pod *corev1.Pod) string {
	t.Helper()
	current := &corev1.Pod{}
	if err := r.Get(t.Context(), client.ObjectKeyFromObject(pod), current); err != nil {
		t.Fatal(err)
	}
	if c := podspec.Condition(current, keys.Checkpointable); c != nil {
		return c.Reason
	}
	return ""
}

func TestEveryPodIsCountedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   v1alpha1.RestorePolicyStatus
	}{
		"it was restored":        {restored(corev1.ConditionTrue, keys.RestoredFromCheckpoint), v1alpha1.RestorePolicyStatus{Restored: 1}},
		"there was none":         {restored(corev1.ConditionFalse, keys.ColdNoCheckpoint), v1alpha1.RestorePolicyStatus{ColdStarted: 1}},
		"the restore failed":     {restored(corev1.ConditionFalse, keys.ColdRestoreFailed), v1alpha1.RestorePolicyStatus{Failed: 1}},
		"nobody has decided yet": {func(*corev1.Pod) {}, v1alpha1.RestorePolicyStatus{}},
		"it does not start":      {restored(corev1.ConditionFalse, keys.RestoreRefused), v1alpha1.RestorePolicyStatus{}},
		"containers are to come": {restored(corev1.ConditionFalse, keys.ColdIncomplete), v1alpha1.RestorePolicyStatus{}},
		"the named one is gone":  {restored(corev1.ConditionFalse, keys.ColdCheckpointNotFound), v1alpha1.RestorePolicyStatus{Failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := jobPod(test.change)
			r, _ := newReconciler(t, pod)
			for range 3 {
				reconcile(t, r, pod)
			}
			policy := &v1alpha1.RestorePolicy{}
			if err := r.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "job-work"}, policy); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, policy.Status); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
