package agent

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// says writes the ConfigMap of the operator.
func (b *bench) says(data map[string]string) {
	b.t.Helper()
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: operator.ConfigMap}}
	err := b.Client.Get(b.t.Context(), client.ObjectKeyFromObject(configMap), configMap)
	configMap.Data = data
	if err == nil {
		err = b.Client.Update(b.t.Context(), configMap)
	} else {
		err = b.Client.Create(b.t.Context(), configMap)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// labelNamespace gives the namespace of the pods labels and annotations.
func (b *bench) labelNamespace(labels, annotations map[string]string) {
	b.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: labels, Annotations: annotations}}
	if err := b.Client.Create(b.t.Context(), namespace); err != nil {
		b.t.Fatal(err)
	}
}

func TestWhatIsSaidForTheWholeOperatorReachesRuntimeAndNewPods(t *testing.T) {
	const notAllowed = "namespace default is not among those that ConfigMap checkpoint-operator allows"
	for name, test := range map[string]struct {
		data   map[string]string
		labels map[string]string
		want   string // the reason of both conditions; empty when the pod is captured and may be restored
		says   string
	}{
		"it is paused":                 {data: map[string]string{operator.Paused: "true"}, want: keys.ColdPaused, says: "the whole operator is paused"},
		"it is not":                    {data: map[string]string{operator.Paused: "false"}},
		"the namespace is not named":   {data: map[string]string{operator.Namespaces: "other"}, want: keys.ColdNamespaceNotAllowed, says: notAllowed},
		"the namespace is named":       {data: map[string]string{operator.Namespaces: "other,default"}},
		"the namespace is selected":    {data: map[string]string{operator.NamespaceSelector: "team=blue"}, labels: map[string]string{"team": "blue"}},
		"it is selected no more":       {data: map[string]string{operator.NamespaceSelector: "team=blue"}, want: keys.ColdNamespaceNotAllowed, says: notAllowed},
		"paused goes before":           {data: map[string]string{operator.Namespaces: "other", operator.Paused: "true"}, want: keys.ColdPaused},
		"nobody can say what is meant": {data: map[string]string{operator.Paused: "jein"}, want: keys.ColdPaused, says: `is "jein"`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod("a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })
			b := newBench(t, pod)
			b.labelNamespace(test.labels, nil)
			b.says(test.data)
			b.reconcile(pod)
			why, held := b.Node.ReadHint("a-uid", capture.PausedHint)
			if held != (test.want != "") || !strings.Contains(why, test.says) {
				t.Errorf("the runtime is told: %t, %q", held, why)
			}
			if c := b.checkpointable(pod); (c.Status == corev1.ConditionFalse) != held || held && c.Reason != test.want {
				t.Errorf("the pod says %+v", c)
			}
			d, err := b.Node.Decision("a-uid")
			if err != nil || d.Action != capture.Cold || held && (d.Reason != test.want || !strings.Contains(d.Message, test.says)) {
				t.Errorf("it is decided %+v, %v", d, err)
			}
			b.leaveWord(t.Context())
			if _, is := b.Node.IsPaused(); is != (test.want == keys.ColdPaused) {
				t.Errorf("the gate is told of a pause: %t", is)
			}
		})
	}
}

// A pause ends as it began, and a claim that was not yet made use of is free again.
func TestAClaimIsReleasedWhenThePauseCameFirst(t *testing.T) {
	former, pod := newPod("former"), newPod("a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })
	b := newBench(t, pod)
	if err := b.takeNote(former); err != nil {
		t.Fatal(err)
	}
	b.look(b.captured(former, "1", capture.Complete))
	c := b.checkpoint(v1alpha1.TerminationName(former.Name, former.UID))
	if err := b.noteClaim(t.Context(), pod, c); err != nil {
		t.Fatal(err)
	}
	if won, err := b.claim(t.Context(), pod, c); err != nil || !won {
		t.Fatal(won, err)
	}
	b.says(map[string]string{operator.Paused: "true"})
	b.reconcile(pod)
	b.reconcile(pod) // which reports the decision
	if c := b.checkpoint(v1alpha1.TerminationName(former.Name, former.UID)); c.Status.Claim != nil {
		t.Errorf("its claim is %+v", c.Status.Claim)
	}
	b.says(nil)
	b.reconcile(pod)
	if _, held := b.Node.ReadHint("a-uid", capture.PausedHint); held {
		t.Error("it is still not captured")
	}
}

func TestAStateThatMayNotBeStoredStaysOnTheNodeUntilItMay(t *testing.T) {
	for name, test := range map[string]struct {
		data        map[string]string
		annotations map[string]string
		reason      string
		says        string
	}{
		"it fits": {data: map[string]string{operator.NamespaceQuota: "1Mi"}},
		"over the quota of all": {
			data: map[string]string{operator.NamespaceQuota: "1000Ki"}, reason: v1alpha1.ReasonQuotaExceeded,
			says: "1000Ki: its Checkpoints take 0, and this one 1Mi",
		},
		"over its own": {
			data: map[string]string{operator.NamespaceQuota: "1Gi"}, annotations: map[string]string{keys.NamespaceQuota: "10"},
			reason: v1alpha1.ReasonQuotaExceeded, says: "the quota of namespace default is 10",
		},
		"a namespace that is not allowed": {
			data: map[string]string{operator.Namespaces: "other"}, reason: v1alpha1.ReasonNamespaceNotAllowed, says: "namespace default is not among",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod("a")
			b := noted(t, pod)
			b.labelNamespace(nil, test.annotations)
			b.says(test.data)
			dir := b.captured(pod, "1", capture.Complete)
			b.look(dir)
			c := b.checkpoint("a-a-uid")
			if test.reason == "" {
				if !isTrue(c, v1alpha1.CheckpointUploaded) {
					t.Errorf("its conditions are %+v", c.Status.Conditions)
				}
				return
			}
			for _, kind := range []string{v1alpha1.CheckpointUploaded, v1alpha1.CheckpointStalled} {
				if has := meta.FindStatusCondition(c.Status.Conditions, kind); has == nil || has.Reason != test.reason || !strings.Contains(has.Message, test.says) {
					t.Errorf("%s is %+v", kind, has)
				}
			}
			if len(b.store.keys("")) > 0 || !isThere(dir) || !isTrue(c, v1alpha1.CheckpointCaptured) {
				t.Errorf("the bucket has %v, the folder is there: %t, conditions %+v", b.store.keys(""), isThere(dir), c.Status.Conditions)
			}
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
			if err := b.Client.Delete(t.Context(), namespace); err != nil { // its annotation goes along
				t.Fatal(err)
			}
			b.says(nil)
			b.now = b.now.Add(longestWait)
			b.look(dir)
			if c := b.checkpoint("a-a-uid"); !isTrue(c, v1alpha1.CheckpointUploaded) || isTrue(c, v1alpha1.CheckpointStalled) {
				t.Errorf("when it may: %+v", c.Status.Conditions)
			}
		})
	}
}

// An agent that has just been started does not know yet whether a pause goes on, and changes nothing of what its predecessor left.
func TestAnAgentThatCannotReadWhatIsSaidDecidesNothing(t *testing.T) {
	pod := newPod("a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })
	b := newBench(t, pod)
	if err := b.Node.Pause("it was paused"); err != nil {
		t.Fatal(err)
	}
	unread := errors.New("the cache is not filled yet")
	kept := b.Client
	b.Client = interceptor.NewClient(b.Client.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if _, is := o.(*corev1.ConfigMap); is {
				return unread
			}
			return c.Get(ctx, key, o, options...)
		},
	})
	b.leaveWord(t.Context())
	if why, is := b.Node.IsPaused(); !is || why != "it was paused" {
		t.Errorf("the gate is told %q, %t", why, is)
	}
	if _, err := b.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(pod)}); !errors.Is(err, unread) {
		t.Errorf("it goes on: %v", err)
	}
	if err := b.mayUpload(t.Context(), &v1alpha1.Checkpoint{}, 1); !errors.Is(err, unread) {
		t.Errorf("it would upload: %v", err)
	}
	if _, err := b.Node.Decision("a-uid"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has decided: %v", err)
	}
	failing := b.Client
	b.Client = kept
	b.says(map[string]string{operator.Paused: "true"})
	b.reconcile(pod)
	b.Client = failing // what it once knew it keeps to
	if reason, _, err := b.heldBack(t.Context(), "default"); err != nil || reason != keys.ColdPaused {
		t.Errorf("it holds back for %q, %v", reason, err)
	}
}
