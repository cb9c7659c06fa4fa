package retention

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/operatorconfig"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

func sized(bytes int64) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) { c.Status.SizeBytes = &bytes }
}

func pinned(c *v1alpha1.Checkpoint) { c.Labels = map[string]string{keys.CheckpointPin: keys.True} }

func of(identity string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) { c.Status.Source.Identity = identity }
}

func inVolume(c *v1alpha1.Checkpoint) {
	c.Status.LocationName, c.Status.Volume = "", &v1alpha1.CheckpointVolume{Name: "data"}
}

// waiting has a Checkpoint wait on its node for room in its namespace.
func waiting(c *v1alpha1.Checkpoint) {
	in(v1alpha1.StateUploading, 0)(c)
	c.Status.LocationName = ""
	c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{
		Type: v1alpha1.CheckpointUploaded, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonQuotaExceeded,
	})
}

// expiring returns the names of those that expire, and why.
func (f facts) expiring() (names []string) {
	f.room = f.makers()
	for i := range f.checkpoints {
		if s := f.judge(&f.checkpoints[i]); s.cause != "" {
			names = append(names, f.checkpoints[i].Name+": "+string(s.cause))
		}
	}
	slices.Sort(names)
	return names
}

func TestTheOldestGoUntilThereIsNoMoreThanMaxSize(t *testing.T) {
	at := func(name string, hours int, changes ...func(*v1alpha1.Checkpoint)) v1alpha1.Checkpoint {
		return complete(name, time.Duration(hours)*time.Hour, append([]func(*v1alpha1.Checkpoint){sized(10)}, changes...)...)
	}
	for name, test := range map[string]struct {
		max         string
		checkpoints []v1alpha1.Checkpoint
		want        []string
	}{
		"they fit exactly":             {max: "20", checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("b", 1)}},
		"a byte too much":              {max: "19", checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("b", 1)}, want: []string{"a: MaxSize"}},
		"the newest stays in any case": {max: "1", checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("b", 1)}, want: []string{"a: MaxSize"}},
		"as many as are needed": {
			max: "15", checkpoints: []v1alpha1.Checkpoint{at("a", 3), at("b", 2), at("c", 1)}, want: []string{"a: MaxSize", "b: MaxSize"},
		},
		"of each pod for itself": {max: "10", checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("b", 1, of("db-1"))}},
		"one that is being restored": {
			max: "10", want: []string{"b: MaxSize"},
			checkpoints: []v1alpha1.Checkpoint{at("a", 3, claimed(v1alpha1.ClaimClaimed, 0)), at("b", 2), at("c", 1)},
		},
		"one that is pinned neither goes nor counts": {max: "20", checkpoints: []v1alpha1.Checkpoint{at("a", 3, pinned), at("b", 2), at("c", 1)}},
		"what no pod has taken is the work of another": {
			max: "10", want: []string{"b: MaxSize"},
			checkpoints: []v1alpha1.Checkpoint{at("a", 3, shared), at("b", 2, shared, claimed(v1alpha1.ClaimConsumed, time.Minute)), at("c", 1, shared)},
		},
		"one that is on its way does not count": {max: "10", checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("b", 1, in(v1alpha1.StateUploading, 0))}},
	} {
		t.Run(name, func(t *testing.T) {
			limit := resource.MustParse(test.max)
			p := policy(func(r *v1alpha1.CheckpointRetention) { r.MaxSize = &limit })
			f := facts{checkpoints: test.checkpoints, now: now, policies: []v1alpha1.CheckpointPolicy{p}}
			if diff := cmp.Diff(test.want, f.expiring()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhatIsPinnedStaysWhateverTheRules(t *testing.T) {
	week := v1alpha1.DefaultTTL
	done := map[string]end{"owner": {causeCompleted, "Job db has completed"}}
	for name, test := range map[string]struct {
		checkpoint v1alpha1.Checkpoint
		ends       map[string]end
	}{
		"it is too old":          {checkpoint: complete("c", week)},
		"it was restored":        {checkpoint: complete("c", 2*time.Hour, claimed(v1alpha1.ClaimConsumed, 2*time.Hour))},
		"its owner is done":      {checkpoint: complete("c", time.Hour), ends: done},
		"it has expired already": {checkpoint: complete("c", time.Hour, in(v1alpha1.StateExpired, time.Hour))},
		"it has failed":          {checkpoint: complete("c", week, in(v1alpha1.StateFailed, week))},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts{checkpoints: []v1alpha1.Checkpoint{test.checkpoint}, ends: test.ends, now: now}
			if s := f.judge(&f.checkpoints[0]); s.cause == "" && !s.delete {
				t.Errorf("it would stay without a pin: %+v", s)
			}
			pinned(&f.checkpoints[0])
			if diff := cmp.Diff(step{keep: true}, f.judge(&f.checkpoints[0]), cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	f := facts{now: now, policies: []v1alpha1.CheckpointPolicy{policy(onlyTheLast)}, checkpoints: []v1alpha1.Checkpoint{
		complete("a", 3*time.Hour), complete("pinned", 2*time.Hour, pinned),
	}}
	if names := f.expiring(); len(names) > 0 {
		t.Errorf("with a pinned one that is newer %v expire", names)
	}
}

func TestOnlyWhatIsOfNoUseMakesRoomForWhatWaits(t *testing.T) {
	at := func(name string, hours int, changes ...func(*v1alpha1.Checkpoint)) v1alpha1.Checkpoint {
		return complete(name, time.Duration(hours)*time.Hour, append([]func(*v1alpha1.Checkpoint){sized(10), of(name)}, changes...)...)
	}
	used := claimed(v1alpha1.ClaimConsumed, time.Minute)
	for name, test := range map[string]struct {
		quota       int64
		checkpoints []v1alpha1.Checkpoint
		restores    []v1alpha1.RestorePolicy
		want        []string
	}{
		"nothing waits":          {quota: 10, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("b", 1)}},
		"there is no quota":      {checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("w", 1, waiting)}},
		"there is room by now":   {quota: 20, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("w", 1, waiting)}},
		"what was restored goes": {quota: 10, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("w", 1, waiting)}, want: []string{"a: Quota"}},
		"what is of use stays":   {quota: 10, checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("w", 1, waiting)}},
		"what is pinned stays":   {quota: 10, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used, pinned), at("w", 1, waiting)}},
		"what is in a volume takes no room": {
			quota: 10, checkpoints: []v1alpha1.Checkpoint{at("a", 2), at("v", 3, used, inVolume), at("w", 1, waiting)},
		},
		"what can never fit needs none": {quota: 9, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("w", 1, waiting)}},
		"what goes already is enough": {
			quota: 20, checkpoints: []v1alpha1.Checkpoint{at("a", 3, used), at("b", 2, in(v1alpha1.StateExpired, 0)), at("w", 1, waiting)},
		},
		"no more than is needed": {
			quota: 20, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("b", 3, used), at("w", 1, waiting)}, want: []string{"b: Quota"},
		},
		"what has a newer one goes after that": {
			quota: 20, checkpoints: []v1alpha1.Checkpoint{at("a", 4, of("x")), at("b", 3, of("x")), at("u", 2, used), at("w", 1, waiting)},
			want: []string{"a: Quota", "u: Quota"},
		},
		"what pods go back to stays": {
			quota: 10, checkpoints: []v1alpha1.Checkpoint{at("a", 2, used), at("w", 1, waiting)},
			restores: []v1alpha1.RestorePolicy{{Spec: v1alpha1.RestorePolicySpec{Owner: &v1alpha1.Owner{UID: "owner"}, Fallback: v1alpha1.FallbackPrevious}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts{checkpoints: test.checkpoints, restores: test.restores, quota: test.quota, now: now}
			if diff := cmp.Diff(test.want, f.expiring()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhileTheOperatorIsPausedNothingExpires(t *testing.T) {
	scheme := clientgoscheme.Scheme
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	old := complete("old", time.Hour, in(v1alpha1.StateExpired, time.Hour))
	old.Namespace = "ns"
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: operator.ConfigMap}, Data: map[string]string{operator.Paused: "true"},
	}
	kept := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&old, configMap).WithStatusSubresource(&v1alpha1.Checkpoint{}).Build()
	r := &Reconciler{
		Client: kept, Recorder: events.NewFakeRecorder(10), Now: func() time.Time { return now },
		Config: &operatorconfig.Source{Reader: kept, Namespace: "system"},
	}
	for _, stays := range []bool{true, false} {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns"}}); err != nil {
			t.Fatal(err)
		}
		if err := kept.Get(t.Context(), client.ObjectKeyFromObject(&old), &v1alpha1.Checkpoint{}); (err == nil) != stays {
			t.Errorf("it stays: %v", err)
		}
		configMap.Data = nil
		if err := kept.Update(t.Context(), configMap); err != nil {
			t.Fatal(err)
		}
	}
}
