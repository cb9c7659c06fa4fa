package integration

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// shop is a namespace with a manager on it, a bucket, and a controller whose pods leave Checkpoints.
type shop struct {
	ns, location, node string
	store              storage.Store
	owner              *corev1.ConfigMap
}

func newShop(t *testing.T) *shop {
	t.Helper()
	ns := namespace(t)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	startManager(t, ns, store)
	return &shop{ns: ns, location: newWorkingLocation(t, ns), node: newNode(t), store: store, owner: owner(t, ns, "db")}
}

// complete makes a Checkpoint as it is when agent and manager are done with it, with data in the bucket. It was captured that long ago.
func (s *shop) complete(t *testing.T, name string, ago time.Duration, with func(*v1alpha1.CheckpointStatus)) *v1alpha1.Checkpoint {
	t.Helper()
	c := newCheckpoint()
	c.GenerateName, c.Name, c.Finalizers = "", name, []string{keys.CheckpointFinalizer}
	c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: s.owner.Name, UID: s.owner.UID}}
	status := v1alpha1.CheckpointStatus{
		CaptureTime: &metav1.Time{Time: time.Now().Add(-ago)}, LocationName: s.location, ManifestDigest: digest,
		Source: &v1alpha1.CheckpointSource{
			PodUID: podUID, Node: s.node, Lineage: "one", Identity: "db-0", Labels: map[string]string{"app": "db"},
			Owner: &v1alpha1.Owner{APIVersion: "v1", Kind: "ConfigMap", Name: s.owner.Name, UID: s.owner.UID},
		},
	}
	if with != nil {
		with(&status)
	}
	made, err := client.CheckpointV1alpha1().Checkpoints(s.ns).Create(t.Context(), c, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	putState(t, s.store, s.folder(), made)
	for _, kind := range []string{v1alpha1.CheckpointCaptured, v1alpha1.CheckpointUploaded} {
		status.Conditions = append(status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, LastTransitionTime: metav1.Now(),
		})
	}
	lab.Eventually(t, patience, "its status is written", func() error {
		now := read(t, s.ns, name)
		ready := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.CheckpointReady)
		now.Status = status
		if ready != nil {
			now.Status.Conditions = append(slices.Clone(status.Conditions), *ready)
		}
		_, err := client.CheckpointV1alpha1().Checkpoints(s.ns).UpdateStatus(t.Context(), now, metav1.UpdateOptions{})
		return err
	})
	return made
}

func (s *shop) folder() string { return keys.StorageFolder(s.ns, "one") }

// hasState tells whether the bucket has the state of a Checkpoint.
func (s *shop) hasState(t *testing.T, c *v1alpha1.Checkpoint) error {
	t.Helper()
	_, err := s.store.Stat(t.Context(), path.Join(s.folder(), "manifests", string(c.UID)))
	return err
}

// keep writes a policy for the shop's pods.
func (s *shop) keep(t *testing.T, change func(*v1alpha1.CheckpointPolicySpec)) *v1alpha1.CheckpointPolicy {
	t.Helper()
	return create(t, client.CheckpointV1alpha1().CheckpointPolicies(s.ns), func() *v1alpha1.CheckpointPolicy {
		p := newCheckpointPolicy()
		p.Spec.Selector.MatchLabels = map[string]string{"app": "db"}
		change(&p.Spec)
		return p
	}, nil)
}

// expires waits until a Checkpoint has expired for a reason that its condition gives, and hurries: nobody waits here for the minute until it goes.
func (s *shop) expires(t *testing.T, c *v1alpha1.Checkpoint, says string) {
	t.Helper()
	awaitState(t, s.ns, c.Name, metav1.ConditionFalse, v1alpha1.StateExpired)
	ready := meta.FindStatusCondition(read(t, s.ns, c.Name).Status.Conditions, v1alpha1.CheckpointReady)
	if !strings.Contains(ready.Message, says) {
		t.Errorf("Checkpoint %s says %q", c.Name, ready.Message)
	}
	awaitEvent(t, s.ns, "Checkpoint", c.Name, v1alpha1.StateExpired)
	old := *ready
	old.LastTransitionTime = metav1.NewTime(time.Now().Add(-2 * time.Minute))
	write(t, s.ns, c.Name, keys.RetentionFields, apply.CheckpointStatus().WithConditions(
		condition(old.Type, old.Status, old.Reason).WithMessage(old.Message).WithLastTransitionTime(old.LastTransitionTime)))
	awaitNoCheckpoint(t, s.ns, c.Name)
	for _, kind := range []string{"manifests/", "index/", "intents/", "packs/"} {
		checkEmpty(t, s.store, path.Join(s.folder(), kind, string(c.UID)))
	}
}

// stays checks that a Checkpoint and its data are there.
func (s *shop) stays(t *testing.T, c *v1alpha1.Checkpoint) {
	t.Helper()
	ready := meta.FindStatusCondition(read(t, s.ns, c.Name).Status.Conditions, v1alpha1.CheckpointReady)
	if err := s.hasState(t, c); err != nil || ready == nil || ready.Reason == v1alpha1.StateExpired {
		t.Errorf("Checkpoint %s is %+v, its manifest: %v", c.Name, ready, err)
	}
}

func TestCheckpointsBehindNewerOnesGoWithTheirData(t *testing.T) {
	s := newShop(t)
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.KeepLast = new(int32(1)) })
	claim := func(status *v1alpha1.CheckpointStatus) { status.Claim = newClaim(v1alpha1.ClaimClaimed) }
	restoring := s.complete(t, "restoring", 3*time.Hour, claim)
	first := s.complete(t, "first", 2*time.Hour, nil)
	neighbour := s.complete(t, "neighbour", 2*time.Hour, func(status *v1alpha1.CheckpointStatus) { status.Source.Identity = "db-1" })
	second := s.complete(t, "second", time.Hour, nil)
	third := s.complete(t, "third", time.Minute, nil)
	s.expires(t, first, "keepLast")
	s.expires(t, second, "keepLast")
	for _, c := range []*v1alpha1.Checkpoint{restoring, neighbour, third} {
		s.stays(t, c)
	}
}

func TestACheckpointExpiresByItsTTLWhichCanChange(t *testing.T) {
	s := newShop(t)
	old, young := s.complete(t, "old", time.Hour, nil), s.complete(t, "young", time.Minute, nil)
	awaitState(t, s.ns, old.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.TTL = &metav1.Duration{Duration: 30 * time.Minute} })
	s.expires(t, old, "ttl")
	s.stays(t, young)
}

func TestWhatACompletedJobLeaves(t *testing.T) {
	s := newShop(t)
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, NodeSelector: map[string]string{"nowhere": "at-all"}, Containers: []corev1.Container{{Name: "app", Image: "app:1"}},
	}}
	jobs := shared.Client.BatchV1().Jobs(s.ns)
	job, err := jobs.Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "work"}, Spec: batchv1.JobSpec{Template: template, ActiveDeadlineSeconds: new(int64(600))},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	of := func(labels map[string]string) func(*v1alpha1.CheckpointStatus) {
		return func(status *v1alpha1.CheckpointStatus) {
			status.Source.Owner = &v1alpha1.Owner{APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID}
			status.Source.Identity, status.Source.Labels = "", labels
		}
	}
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) {
		p.Selector.MatchLabels, p.Retention.OnOwnerCompleted = map[string]string{"app": "kept"}, v1alpha1.DisposalKeep
	})
	goes, kept := s.complete(t, "goes", time.Minute, of(nil)), s.complete(t, "kept", time.Minute, of(map[string]string{"app": "kept"}))
	awaitState(t, s.ns, goes.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	s.stays(t, goes)
	deadline := []byte(`{"spec":{"activeDeadlineSeconds":1}}`) // by which it fails, and has ended
	if _, err := jobs.Patch(t.Context(), job.Name, types.MergePatchType, deadline, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.expires(t, goes, "Job work has failed")
	s.stays(t, kept)
}

func TestCheckpointsOutliveTheirOwnerIfThePolicySaysSo(t *testing.T) {
	s := newShop(t)
	goes := s.complete(t, "goes", time.Minute, func(status *v1alpha1.CheckpointStatus) { status.Source.Labels = nil })
	stays := s.complete(t, "stays", time.Minute, nil)
	policy := s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.OnOwnerDeleted = v1alpha1.DisposalKeep })
	pod := start(t, builder.MakePod(s.ns, "db-1").Label("app", "db").Admitted().Node(s.node).ControlledBy("v1", "ConfigMap", s.owner).Obj())
	if err := shared.Client.CoreV1().Pods(s.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	made := v1alpha1.TerminationName(pod.Name, pod.UID)
	awaitState(t, s.ns, made, metav1.ConditionFalse, v1alpha1.StatePending)
	if references := read(t, s.ns, made).OwnerReferences; len(references) > 0 {
		t.Errorf("the new Checkpoint goes with %v", references)
	}
	awaitReferences(t, s.ns, stays.Name, 0)
	if err := shared.Client.CoreV1().ConfigMaps(s.ns).Delete(t.Context(), s.owner.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitNoCheckpoint(t, s.ns, goes.Name)
	s.stays(t, stays)
	if _, err := client.CheckpointV1alpha1().Checkpoints(s.ns).Get(t.Context(), made, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	patch := []byte(`{"spec":{"retention":{"onOwnerDeleted":"Delete"}}}`)
	_, err := client.CheckpointV1alpha1().CheckpointPolicies(s.ns).Patch(t.Context(), policy.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	awaitNoCheckpoint(t, s.ns, stays.Name) // the owner is gone already
	checkEmpty(t, s.store, path.Join(s.folder(), "manifests", string(stays.UID)))
}

func awaitReferences(t *testing.T, ns, name string, want int) {
	t.Helper()
	lab.Eventually(t, patience, fmt.Sprintf("Checkpoint %s has %d owners", name, want), func() error {
		if has := read(t, ns, name).OwnerReferences; len(has) != want {
			return fmt.Errorf("it has %v", has)
		}
		return nil
	})
}

func TestWhatIsInAReadOnlyLocationStaysThere(t *testing.T) {
	s := newShop(t)
	c := s.complete(t, "old", time.Hour, nil)
	awaitState(t, s.ns, c.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	setAccess(t, s.location, v1alpha1.AccessReadOnly)
	awaitLocation(t, s.location, metav1.ConditionTrue, v1alpha1.LocationValidated)
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.TTL = &metav1.Duration{Duration: time.Minute} })
	time.Sleep(2 * time.Second) // nothing happens
	s.stays(t, c)
	deleteCheckpoint(t, s.ns, c.Name)
	awaitNoCheckpoint(t, s.ns, c.Name)
	awaitEvent(t, s.ns, "Checkpoint", c.Name, "DataKept")
	if err := s.hasState(t, c); err != nil {
		t.Errorf("its data: %v", err)
	}
}

func setAccess(t *testing.T, location string, mode v1alpha1.AccessMode) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"accessMode":%q}}`, mode)
	_, err := client.CheckpointV1alpha1().CheckpointStorageLocations().Patch(t.Context(), location, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOfTwoDefaultsOneSaysThatItIsNotInUse(t *testing.T) {
	ns := namespace(t)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	startManager(t, ns, store)
	newCredentials(t, ns)
	first := newLocationNamed(t, ns+"-a")
	awaitDefault(t, first, metav1.ConditionTrue, v1alpha1.LocationInUse)
	second := newLocationNamed(t, ns+"-b")
	awaitDefault(t, second, metav1.ConditionFalse, v1alpha1.LocationAnotherDefault)
	awaitDefault(t, first, metav1.ConditionTrue, v1alpha1.LocationInUse)
	if err := client.CheckpointV1alpha1().CheckpointStorageLocations().Delete(t.Context(), first, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitDefault(t, second, metav1.ConditionTrue, v1alpha1.LocationInUse)
}

func awaitDefault(t *testing.T, name string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	lab.Eventually(t, patience, "location "+name+" is "+reason, func() error {
		location, err := client.CheckpointV1alpha1().CheckpointStorageLocations().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := meta.FindStatusCondition(location.Status.Conditions, v1alpha1.LocationDefault); c == nil || c.Status != status || c.Reason != reason {
			return fmt.Errorf("its conditions are %+v", location.Status.Conditions)
		}
		return nil
	})
}

func TestAPolicySaysWhetherItDoesWhatItSays(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	controller, policies := owner(t, ns, "db"), client.CheckpointV1alpha1().CheckpointPolicies(ns)
	start(t, builder.MakePod(ns, "db-0").Label("app", "web").Admitted().Node(nowhere(ns)).ControlledBy("v1", "ConfigMap", controller).Obj())
	policy := create(t, policies, newCheckpointPolicy, nil)
	await := func(name, reason, says string, pods int32) {
		t.Helper()
		lab.Eventually(t, patience, "policy "+name+" is "+reason, func() error {
			now, err := policies.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			c := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.CheckpointPolicyReady)
			isCurrent := now.Status.ObservedGeneration == now.Generation && now.Status.MatchedPods == pods
			if !isCurrent || c == nil || c.Reason != reason || !strings.Contains(c.Message, says) {
				return fmt.Errorf("its status is %+v", now.Status)
			}
			return nil
		})
	}
	change := func(patch string) {
		t.Helper()
		if _, err := policies.Patch(t.Context(), policy.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	await(policy.Name, v1alpha1.CheckpointPolicyActive, "", 1)
	time.Sleep(time.Second) // so that the next one is younger
	later := create(t, policies, newCheckpointPolicy, nil)
	await(later.Name, v1alpha1.CheckpointPolicyActive, "", 0)
	change(`{"spec":{"containers":{"exclude":["log"]}}}`)
	await(policy.Name, v1alpha1.CheckpointPolicyUnknownContainers, `"log", which none of its pods has; they have "app"`, 1)
	awaitEvent(t, ns, "CheckpointPolicy", policy.Name, v1alpha1.CheckpointPolicyUnknownContainers)
	change(`{"spec":{"containers":null,"storageLocation":"archive-of-` + ns + `"}}`)
	await(policy.Name, v1alpha1.CheckpointPolicyLocationNotFound, "archive-of-"+ns, 1)
	archive := newLocationNamed(t, "archive-of-"+ns)
	await(policy.Name, v1alpha1.CheckpointPolicyActive, "", 1)
	setAccess(t, archive, v1alpha1.AccessReadOnly)
	await(policy.Name, v1alpha1.CheckpointPolicyLocationReadOnly, archive, 1)
	change(`{"spec":{"storageLocation":null,"paused":true}}`)
	await(policy.Name, v1alpha1.CheckpointPolicyPaused, "", 1)
	if err := policies.Delete(t.Context(), policy.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(later.Name, v1alpha1.CheckpointPolicyActive, "", 1)
}
