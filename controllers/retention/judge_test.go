package retention

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// complete is a Checkpoint of a StatefulSet's pod, captured that long ago.
func complete(name string, ago time.Duration, changes ...func(*v1alpha1.Checkpoint)) v1alpha1.Checkpoint {
	c := v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now.Add(-ago)), OwnerReferences: []metav1.OwnerReference{{UID: "owner"}}},
		Status: v1alpha1.CheckpointStatus{
			CaptureTime: &metav1.Time{Time: now.Add(-ago)}, LocationName: "bucket",
			Source: &v1alpha1.CheckpointSource{
				Lineage: "one", Identity: "db-0", Owner: &v1alpha1.Owner{UID: "owner"}, Labels: map[string]string{"app": "db"},
			},
		},
	}
	in(v1alpha1.StateCompleted, ago)(&c)
	for _, change := range changes {
		change(&c)
	}
	return c
}

func stored(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = "sha256:1" }

func captured(reason string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{Type: v1alpha1.CheckpointCaptured, Reason: reason})
	}
}

// in has it be in a state for that long.
func in(state string, since time.Duration) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		ready := metav1.Condition{
			Type: v1alpha1.CheckpointReady, Status: metav1.ConditionFalse, Reason: state, Message: "as written",
			LastTransitionTime: metav1.NewTime(now.Add(-since)),
		}
		if state == v1alpha1.StateCompleted {
			ready.Status = metav1.ConditionTrue
		}
		c.Status.Conditions = []metav1.Condition{ready}
	}
}

func claimed(phase v1alpha1.ClaimPhase, ago time.Duration) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Status.Claim = &v1alpha1.CheckpointClaim{PodUID: "new", PodName: "db-0", Node: "n", Phase: phase}
		if phase == v1alpha1.ClaimConsumed {
			c.Status.Claim.ConsumedTime = &metav1.Time{Time: now.Add(-ago)}
		}
	}
}

func unlabelled(c *v1alpha1.Checkpoint) { c.Status.Source.Labels = nil }

func shared(c *v1alpha1.Checkpoint) { c.Status.Source.Identity = "" }

func plain(c *v1alpha1.Checkpoint) { c.Status.Source.Identity, c.Status.Source.Owner = "", nil }

func policy(change func(*v1alpha1.CheckpointRetention)) v1alpha1.CheckpointPolicy {
	p := v1alpha1.CheckpointPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec:       v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}},
	}
	change(&p.Spec.Retention)
	return p
}

func onlyTheLast(r *v1alpha1.CheckpointRetention) { r.KeepLast = new(int32(1)) }

func ttl(d time.Duration) func(*v1alpha1.CheckpointRetention) {
	return func(r *v1alpha1.CheckpointRetention) { r.TTL = &metav1.Duration{Duration: d} }
}

// ages are Checkpoints, the first of which is judged, that many minutes old.
func ages(minutes ...int) (all []v1alpha1.Checkpoint) {
	for i, m := range minutes {
		all = append(all, complete(fmt.Sprintf("c-%d", i), time.Duration(m)*time.Minute))
	}
	return all
}

func changed(all []v1alpha1.Checkpoint, change func(*v1alpha1.Checkpoint)) []v1alpha1.Checkpoint {
	for i := range all {
		change(&all[i])
	}
	return all
}

// fate is a Checkpoint and what surrounds it, and what is to be done about it.
type fate struct {
	checkpoints []v1alpha1.Checkpoint // the first is judged
	policy      func(*v1alpha1.CheckpointRetention)
	restores    []v1alpha1.RestorePolicy
	ends        map[string]end
	readOnly    bool
	want        step // without its message
}

func TestWhatBecomesOfACheckpoint(t *testing.T) {
	week := v1alpha1.DefaultTTL
	done := map[string]end{"owner": {causeCompleted, "Job db has completed"}, "one": {causeCompleted, "pod db has succeeded"}}
	replaced := map[string]end{"owner": {causeReplaced, "rolled out"}}
	one := func(ago time.Duration, changes ...func(*v1alpha1.Checkpoint)) []v1alpha1.Checkpoint {
		return []v1alpha1.Checkpoint{complete("c", ago, changes...)}
	}
	keep := func(r *v1alpha1.CheckpointRetention) {
		r.OnOwnerCompleted, r.OnOwnerDeleted = v1alpha1.DisposalKeep, v1alpha1.DisposalKeep
	}
	testFates(t, map[string]fate{
		"it stays a week without a policy": {checkpoints: one(time.Hour), want: step{after: week - time.Hour}},
		"it is a week old":                 {checkpoints: one(week), want: step{cause: causeTTL}},
		"it is older than its ttl":         {checkpoints: one(time.Hour), policy: ttl(time.Minute), want: step{cause: causeTTL}},
		"it is younger than its ttl":       {checkpoints: one(time.Minute), policy: ttl(time.Hour), want: step{after: 59 * time.Minute}},
		"it is older, and on its way": {
			checkpoints: one(time.Hour, in(v1alpha1.StateUploading, 0)), policy: ttl(time.Minute),
			want: step{cause: causeTTL},
		},
		"a policy for other pods": {checkpoints: one(time.Hour, unlabelled), policy: ttl(time.Minute), want: step{after: week - time.Hour}},
		"it is being restored":    {checkpoints: one(time.Hour, claimed(v1alpha1.ClaimClaimed, 0)), policy: ttl(time.Minute)},
		"it was restored just now": {
			checkpoints: one(2*time.Hour, claimed(v1alpha1.ClaimConsumed, time.Minute)),
			want:        step{after: 59 * time.Minute},
		},
		"it was restored long ago": {
			checkpoints: one(2*time.Hour, claimed(v1alpha1.ClaimConsumed, time.Hour)),
			want:        step{cause: causeConsumed},
		},
		"it was restored long ago, and pods go back to it": {
			checkpoints: one(2*time.Hour, claimed(v1alpha1.ClaimConsumed, time.Hour)),
			restores:    []v1alpha1.RestorePolicy{{Spec: v1alpha1.RestorePolicySpec{Owner: &v1alpha1.Owner{UID: "owner"}, Fallback: v1alpha1.FallbackPrevious}}},
			want:        step{after: week - 2*time.Hour},
		},
		"it was restored long ago, and other pods go back": {
			checkpoints: one(2*time.Hour, claimed(v1alpha1.ClaimConsumed, time.Hour)),
			restores:    []v1alpha1.RestorePolicy{{Spec: v1alpha1.RestorePolicySpec{Owner: &v1alpha1.Owner{UID: "other"}, Fallback: v1alpha1.FallbackPrevious}}},
			want:        step{cause: causeConsumed},
		},
		"it was restored just now, and is old": {
			checkpoints: one(time.Hour, claimed(v1alpha1.ClaimConsumed, 0)), policy: ttl(61 * time.Minute),
			want: step{after: time.Minute},
		},
		"it has expired just now":               {checkpoints: one(time.Hour, in(v1alpha1.StateExpired, 10*time.Second)), want: step{after: 50 * time.Second}},
		"it has expired":                        {checkpoints: one(time.Hour, in(v1alpha1.StateExpired, time.Minute)), want: step{delete: true}},
		"it has expired, and is being restored": {checkpoints: one(time.Hour, in(v1alpha1.StateExpired, time.Hour), claimed(v1alpha1.ClaimClaimed, 0))},
		"it is in a location that is read-only": {checkpoints: one(2 * week), readOnly: true},
		"it failed today":                       {checkpoints: one(time.Hour, in(v1alpha1.StateFailed, 0)), want: step{after: 23 * time.Hour}},
		"it failed yesterday": {
			checkpoints: one(24*time.Hour, in(v1alpha1.StateFailed, 0)),
			want:        step{cause: causeStateless, delete: true},
		},
		"it was discarded, and the ttl is short": {
			checkpoints: one(time.Hour, in(v1alpha1.StateDiscarded, 0)), policy: ttl(time.Minute),
			want: step{cause: causeStateless, delete: true},
		},
		"it was stored, and then its pod went on": {
			checkpoints: one(time.Minute, in(v1alpha1.StateDiscarded, 0), stored, captured(v1alpha1.StateDiscarded)),
			want:        step{cause: causeStateless, delete: true},
		},
		"its pod went on, and the next capture is stored by now": {
			checkpoints: one(time.Hour, in(v1alpha1.StateDiscarded, 0), stored, captured(v1alpha1.StateCompleted)), want: step{after: 23 * time.Hour},
		},
		"its Job has completed": {checkpoints: one(time.Hour), ends: done, want: step{cause: causeCompleted}},
		"its Job has completed, it is on its way": {
			checkpoints: one(time.Hour, in(v1alpha1.StateUploading, 0)), ends: done,
			want: step{after: week - time.Hour},
		},
		"its Job has completed, it failed": {
			checkpoints: one(time.Hour, in(v1alpha1.StateFailed, 0)), ends: done,
			want: step{cause: causeStateless, delete: true},
		},
		"its Job has completed, and it is kept": {checkpoints: one(time.Hour), ends: done, policy: keep, want: step{after: week - time.Hour, keep: true}},
		"its plain pod has succeeded":           {checkpoints: one(time.Hour, plain), ends: done, want: step{cause: causeCompleted}},
		"its ReplicaSet was rolled out":         {checkpoints: one(time.Hour, shared), ends: replaced, want: step{cause: causeReplaced}},
		"a rollout is no completion": {
			checkpoints: one(time.Hour, shared), ends: replaced, policy: keep,
			want: step{cause: causeReplaced, keep: true},
		},
	})
}

func TestWhatBecomesOfACheckpointBehindNewerOnes(t *testing.T) {
	week := v1alpha1.DefaultTTL
	testFates(t, map[string]fate{
		"there are three newer ones":            {checkpoints: ages(40, 30, 20, 10), want: step{cause: causeKeepLast}},
		"there are two newer ones":              {checkpoints: ages(30, 20, 10), want: step{after: week - 30*time.Minute}},
		"one is kept, and there is a newer one": {checkpoints: ages(30, 20), policy: onlyTheLast, want: step{cause: causeKeepLast}},
		"one is kept, and it is that":           {checkpoints: ages(20, 30), policy: onlyTheLast, want: step{after: week - 20*time.Minute}},
		"the newer one is of another pod": {checkpoints: append(ages(30), complete("other", time.Minute, func(c *v1alpha1.Checkpoint) {
			c.Status.Source.Identity = "db-1"
		})), policy: onlyTheLast, want: step{after: week - 30*time.Minute}},
		"the newer one is on its way": {checkpoints: append(ages(30), complete("other", time.Minute, in(v1alpha1.StateUploading, 0))),
			policy: onlyTheLast, want: step{after: week - 30*time.Minute}},
		"the newer ones are the work of other pods": {
			checkpoints: changed(ages(30, 20, 10), shared), policy: onlyTheLast,
			want: step{after: week - 30*time.Minute},
		},
		"the newer one is, and this was restored": {checkpoints: append(changed(ages(30), func(c *v1alpha1.Checkpoint) {
			shared(c)
			claimed(v1alpha1.ClaimConsumed, time.Minute)(c)
		}), changed(ages(20), shared)...), policy: onlyTheLast, want: step{cause: causeKeepLast}},
		"the plain pod of that name is one": {checkpoints: changed(ages(30, 20), plain), policy: onlyTheLast, want: step{cause: causeKeepLast}},
	})
}

func testFates(t *testing.T, fates map[string]fate) {
	t.Helper()
	for name, test := range fates {
		t.Run(name, func(t *testing.T) {
			f := facts{checkpoints: test.checkpoints, restores: test.restores, ends: test.ends, readOnly: map[string]bool{"bucket": test.readOnly}, now: now}
			if test.policy != nil {
				f.policies = []v1alpha1.CheckpointPolicy{policy(test.policy)}
			}
			got := f.judge(&f.checkpoints[0])
			if (got.message != "") != (got.cause != "" || got.delete) {
				t.Errorf("it says %q", got.message)
			}
			got.message = ""
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheOwnerReferenceIsAsThePolicySays(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*v1alpha1.Checkpoint)
		keep    bool
		want    int
		differs bool
	}{
		"it goes with its owner, and does":      {change: func(*v1alpha1.Checkpoint) {}},
		"it stays, and would not":               {change: func(*v1alpha1.Checkpoint) {}, keep: true, differs: true},
		"it stays, and does":                    {change: func(c *v1alpha1.Checkpoint) { c.OwnerReferences = nil }, keep: true},
		"it goes, and would not":                {change: func(c *v1alpha1.Checkpoint) { c.OwnerReferences = nil }, want: 1, differs: true},
		"what a person added stays":             {change: func(c *v1alpha1.Checkpoint) { c.OwnerReferences[0].UID = "theirs" }, want: 2, differs: true},
		"it was made anew, and has none":        {change: func(c *v1alpha1.Checkpoint) { c.OwnerReferences, c.Status.StorageName = nil, "first" }},
		"a plain pod has none":                  {change: func(c *v1alpha1.Checkpoint) { plain(c); c.OwnerReferences = nil }},
		"nothing is known of its owner so far ": {change: func(c *v1alpha1.Checkpoint) { c.Status.Source = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			c := complete("c", 0, test.change)
			got, differs := reference(&c, test.keep)
			if differs != test.differs || len(got) != test.want {
				t.Errorf("%v, %t", got, differs)
			}
		})
	}
}
