package restorepolicy

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func policyNamed(name string, age time.Duration, selector map[string]string) *v1alpha1.RestorePolicy {
	p := &v1alpha1.RestorePolicy{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, UID: types.UID(name), Generation: 1, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)),
	}}
	if selector == nil {
		p.Spec.Owner = &v1alpha1.Owner{APIVersion: "batch/v1", Kind: "Job", Name: "work", UID: "job-uid"}
	} else {
		p.Spec.Selector = &metav1.LabelSelector{MatchLabels: selector}
	}
	return p
}

func podOfJob(name string, labels map[string]string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{keys.CheckpointMode: keys.True},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "work", UID: "job-uid", Controller: new(true)}}}}
	for key, value := range labels {
		p.Labels[key] = value
	}
	return p
}

func newReconciler(t *testing.T, objects ...client.Object) (*Reconciler, *events.FakeRecorder) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	recorder := events.NewFakeRecorder(20)
	kept := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.RestorePolicy{}).Build()
	return &Reconciler{Client: kept, Recorder: recorder, Now: func() time.Time { return time.Unix(1e9, 0) }}, recorder
}

func TestAPolicySaysThatAnotherDecides(t *testing.T) {
	app, tier := map[string]string{"app": "a"}, map[string]string{"tier": "b"}
	both := podOfJob("work-1", map[string]string{"app": "a", "tier": "b"})
	for name, test := range map[string]struct {
		objects []client.Object
		of      string
		want    metav1.ConditionStatus
		says    string
		event   string
	}{
		"it is alone": {objects: []client.Object{policyNamed("spawned", 0, nil), both}, of: "spawned", want: metav1.ConditionFalse},
		"one of a person goes before one that was spawned": {
			objects: []client.Object{policyNamed("spawned", time.Hour, nil), policyNamed("mine", 0, app), both},
			of:      "spawned", want: metav1.ConditionTrue, says: "RestorePolicy mine decides", event: "Normal AnotherFirst",
		},
		"and is not overruled itself": {
			objects: []client.Object{policyNamed("spawned", time.Hour, nil), policyNamed("mine", 0, app), both}, of: "mine", want: metav1.ConditionFalse,
		},
		"the older of two goes first": {
			objects: []client.Object{policyNamed("old", time.Hour, tier), policyNamed("new", 0, app), both},
			of:      "new", want: metav1.ConditionTrue, says: "RestorePolicy old decides", event: "Warning AnotherFirst",
		},
		"no pod has both": {
			objects: []client.Object{policyNamed("old", time.Hour, tier), policyNamed("new", 0, app), podOfJob("1", app), podOfJob("2", tier)},
			of:      "new", want: metav1.ConditionFalse,
		},
		"there is no pod yet": {objects: []client.Object{policyNamed("old", time.Hour, tier), policyNamed("new", 0, app)}, of: "new", want: metav1.ConditionFalse},
		"several go first": {
			objects: []client.Object{policyNamed("old", time.Hour, tier), policyNamed("older", 2*time.Hour, app), policyNamed("new", 0, map[string]string{}),
				podOfJob("1", app), podOfJob("2", tier)},
			of: "new", want: metav1.ConditionTrue, says: "RestorePolicy old or older decides", event: "Warning AnotherFirst",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, recorder := newReconciler(t, test.objects...)
			request := ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: test.of}}
			for range 2 {
				if _, err := r.Reconcile(t.Context(), request); err != nil {
					t.Fatal(err)
				}
			}
			policy := &v1alpha1.RestorePolicy{}
			if err := r.Client.Get(t.Context(), request.NamespacedName, policy); err != nil {
				t.Fatal(err)
			}
			c := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.RestorePolicyOverruled)
			if c == nil || c.Status != test.want || !strings.Contains(c.Message, test.says) || c.ObservedGeneration != 1 || policy.Status.ObservedGeneration != 1 {
				t.Errorf("its status is %+v", policy.Status)
			}
			var told []string
			for len(recorder.Events) > 0 {
				told = append(told, <-recorder.Events)
			}
			if i := slices.IndexFunc(told, func(e string) bool { return strings.HasPrefix(e, test.event) }); test.event != "" && i < 0 || len(told) > 2 {
				t.Errorf("its events are %q", told)
			}
		})
	}
}

func TestWhoIsLookedAtWhenPoliciesAndPodsChange(t *testing.T) {
	app := map[string]string{"app": "a"}
	spawned, mine, other := policyNamed("spawned", time.Hour, nil), policyNamed("mine", 0, app), policyNamed("other", 0, map[string]string{"app": "b"})
	r, _ := newReconciler(t, spawned, mine, other)
	names := func(requests []ctrl.Request) (all []string) {
		for _, request := range requests {
			all = append(all, request.Name)
		}
		slices.Sort(all)
		return all
	}
	unlabelled := podOfJob("plain", app)
	delete(unlabelled.Labels, keys.CheckpointMode)
	for name, test := range map[string]struct {
		got  []ctrl.Request
		want []string
	}{
		"a policy that was spawned overrules nobody": {r.neighbours(t.Context(), spawned), nil},
		"one with a selector may":                    {r.neighbours(t.Context(), mine), []string{"other", "spawned"}},
		"a pod that two apply to":                    {r.ofPod(t.Context(), podOfJob("1", app)), []string{"mine", "spawned"}},
		"a pod that one applies to":                  {r.ofPod(t.Context(), podOfJob("1", nil)), nil},
		"a pod without the label":                    {r.ofPod(t.Context(), unlabelled), nil},
	} {
		if got := names(test.got); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
