package agent

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// say writes a policy for all pods, or changes it.
func (b *bench) say(change func(*v1alpha1.CheckpointPolicySpec)) {
	b.t.Helper()
	p := &v1alpha1.CheckpointPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{}},
	}
	err := b.Client.Get(b.t.Context(), client.ObjectKeyFromObject(p), p)
	change(&p.Spec)
	if err == nil {
		err = b.Client.Update(b.t.Context(), p)
	} else {
		err = b.Client.Create(b.t.Context(), p)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestAPausedPolicyReachesTheRuntime(t *testing.T) {
	pod := newPod("a")
	b := newBench(t, pod)
	for _, paused := range []bool{false, true, true, false} {
		b.say(func(p *v1alpha1.CheckpointPolicySpec) { p.Paused = paused })
		if _, err := b.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(pod)}); err != nil {
			t.Fatal(err)
		}
		why, is := b.Node.ReadHint("a-uid", capture.PausedHint)
		if is != paused || is && why != "CheckpointPolicy p is paused" {
			t.Errorf("the runtime is told: %t, %q", is, why)
		}
		c := b.checkpointable(pod)
		if (c.Reason == keys.UnprotectedPaused) != paused || (c.Status == corev1.ConditionFalse) != paused || c.Message == "" {
			t.Errorf("the pod says %+v", c)
		}
	}
}

func TestAPodThatIsStoppedKeepsWhatHeld(t *testing.T) {
	pod := newPod("a", going, func(p *corev1.Pod) { p.Finalizers = []string{"test/kept"} })
	b := newBench(t, pod)
	if err := b.Node.Hint("a-uid", capture.PausedHint, "it was paused"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(pod)}); err != nil {
		t.Fatal(err)
	}
	if _, is := b.Node.ReadHint("a-uid", capture.PausedHint); !is {
		t.Error("half of it may be captured")
	}
}

func TestAStateGoesWhereItsPolicySays(t *testing.T) {
	archive := &v1alpha1.CheckpointStorageLocation{
		ObjectMeta: metav1.ObjectMeta{Name: "archive"}, Spec: v1alpha1.CheckpointStorageLocationSpec{Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"}},
	}
	museum := archive.DeepCopy()
	museum.Name, museum.Spec.AccessMode = "museum", v1alpha1.AccessReadOnly
	closed := archive.DeepCopy()
	closed.Name, closed.Spec.Credentials.SecretName = "closed", "none"
	for name, test := range map[string]struct {
		policy, begun string // the locations that the policy names, and in which an upload was begun
		want          string
		reason, says  string // of Uploaded and Stalled; empty when it is uploaded
	}{
		"it is there":                           {policy: "archive", want: "archive"},
		"it is not there":                       {policy: "attic", reason: v1alpha1.ReasonLocationNotFound, says: `"attic", which CheckpointPolicy p names`},
		"it is only read":                       {policy: "museum", reason: v1alpha1.ReasonLocationReadOnly, says: `"museum" has the accessMode ReadOnly`},
		"it has no credentials":                 {policy: "closed", reason: v1alpha1.LocationCredentialsMissing, says: `there is no Secret "none" in namespace`},
		"it has begun elsewhere":                {policy: "archive", begun: "main", want: "main"},
		"it has begun, and may not go on there": {policy: "archive", begun: "museum", want: "museum", reason: v1alpha1.ReasonLocationReadOnly, says: "museum"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod("a")
			b := newBench(t, archive.DeepCopy(), museum.DeepCopy(), closed.DeepCopy())
			if err := b.takeNote(pod); err != nil {
				t.Fatal(err)
			}
			b.say(func(p *v1alpha1.CheckpointPolicySpec) { p.StorageLocation = test.policy })
			dir := b.captured(pod, "1", capture.Complete)
			if test.begun != "" {
				record, err := capture.Read(dir)
				if err != nil {
					t.Fatal(err)
				}
				c, source, err := b.object(t.Context(), dir, record, &publication{})
				if err != nil {
					t.Fatal(err)
				}
				if err := b.apply(t.Context(), c, report{source: source, location: test.begun}); err != nil {
					t.Fatal(err)
				}
			}
			b.look(dir)
			c := b.checkpoint("a-a-uid")
			if c.Status.LocationName != test.want || !isThere(dir) {
				t.Errorf("it is in %q; its folder is there: %t", c.Status.LocationName, isThere(dir))
			}
			if test.reason == "" {
				if !isTrue(c, v1alpha1.CheckpointUploaded) {
					t.Errorf("its conditions are %+v", c.Status.Conditions)
				}
				return
			}
			for _, kind := range []string{v1alpha1.CheckpointUploaded, v1alpha1.CheckpointStalled} {
				for _, has := range c.Status.Conditions {
					if has.Type == kind && (has.Reason != test.reason || !strings.Contains(has.Message, test.says)) {
						t.Errorf("%s is %+v", kind, has)
					}
				}
			}
			if !isTrue(c, v1alpha1.CheckpointStalled) || isTrue(c, v1alpha1.CheckpointUploaded) {
				t.Errorf("its conditions are %+v", c.Status.Conditions)
			}
		})
	}
}

func TestACheckpointThatOutlivesItsOwnerHasNone(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	b.say(func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.OnOwnerDeleted = v1alpha1.DisposalKeep })
	b.look(b.captured(pod, "1", capture.Complete))
	if c := b.checkpoint("a-a-uid"); len(c.OwnerReferences) > 0 || c.Status.Source.Owner == nil {
		t.Errorf("it goes with %v; its owner is %v", c.OwnerReferences, c.Status.Source.Owner)
	}
}
