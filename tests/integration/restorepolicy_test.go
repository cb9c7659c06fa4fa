package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func newRestorePolicy() *v1alpha1.RestorePolicy {
	return &v1alpha1.RestorePolicy{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"},
		Spec: v1alpha1.RestorePolicySpec{
			Owner: &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "e1c6a1c0-3c44-4f43-8a8b-0d7c5d3a9d11"},
		},
	}
}

func everyPod() *metav1.LabelSelector { return &metav1.LabelSelector{} }

var newRestorePolicies = map[string]creation[v1alpha1.RestorePolicy]{
	"one for an owner": {
		with: func(*v1alpha1.RestorePolicy) {},
	},
	"one with a selector": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.Owner, p.Spec.Selector = nil, everyPod() },
	},
	"one with both": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Selector = everyPod() },
		refused: "exactly one of owner and selector must be set",
	},
	"one for nobody": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Owner = nil },
		refused: "exactly one of owner and selector must be set",
	},
	"an owner without a UID": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Owner.UID = "" },
		refused: "spec.owner.uid",
	},
	"hooks": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Hooks = &v1alpha1.RestoreHooks{PostRestore: []v1alpha1.Hook{newHook(nil)}}
		},
	},
	"hooks that are none": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Hooks = &v1alpha1.RestoreHooks{} },
		refused: "spec.hooks.postRestore",
	},
	"a hook that ends too soon": {
		with: func(p *v1alpha1.RestorePolicy) {
			short := func(h *v1alpha1.Hook) { h.Timeout = &metav1.Duration{} }
			p.Spec.Hooks = &v1alpha1.RestoreHooks{PostRestore: []v1alpha1.Hook{newHook(short)}}
		},
		refused: "timeout must be from 1s to 5m",
	},
	"a mode that there is not": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Mode = "Perhaps" },
		refused: `supported values: "Enabled", "Disabled"`,
	},
	"a source that there is not": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Source = "Oldest" },
		refused: `supported values: "Latest", "Named"`,
	},
	"a Checkpoint by its name": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreNamed, "db-0-0f2d4c1a"
		},
	},
	"a Checkpoint by its name, and the newest": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreLatest, "db-0-0f2d4c1a"
		},
		refused: "checkpointName goes with source Named only",
	},
	"a Checkpoint by its name, by default the newest": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.CheckpointName = "db-0-0f2d4c1a" },
		refused: "checkpointName goes with source Named only",
	},
	"a Checkpoint by no name": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Source = v1alpha1.RestoreNamed },
		refused: "checkpointName goes with source Named only",
	},
	"a Checkpoint by a name that cannot be": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreNamed, "other/db-0"
		},
		refused: "spec.checkpointName",
	},
	"a Checkpoint by a name that is too long": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreNamed, strings.Repeat("a", 254)
		},
		refused: "spec.checkpointName",
	},
	"the state before, where the last one does not serve": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.Fallback = v1alpha1.FallbackPrevious },
	},
	"the state before a named one": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName, p.Spec.Fallback = v1alpha1.RestoreNamed, "db-0-0f2d4c1a", v1alpha1.FallbackPrevious
		},
		refused: "fallback Previous goes with source Latest only",
	},
	"ten attempts, and ten restarts": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Attempts, p.Spec.ContainerRestarts = new(int32(10)), new(int32(10))
		},
	},
	"no attempt": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Attempts = new(int32(0)) },
		refused: "spec.attempts",
	},
	"more attempts than there is time for": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Attempts = new(int32(11)) },
		refused: "spec.attempts",
	},
	"less than no restart": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.ContainerRestarts = new(int32(-1)) },
		refused: "spec.containerRestarts",
	},
	"more restarts than may be": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.ContainerRestarts = new(int32(11)) },
		refused: "spec.containerRestarts",
	},
	"volumes that have moved on are borne": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.VolumeChanges = v1alpha1.VolumeChangesRestore },
	},
	"volumes that have moved on are something else": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.VolumeChanges = "Ignore" },
		refused: `supported values: "ColdStart", "Restore"`,
	},
	"other revisions are restored": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.TemplateChanges = v1alpha1.TemplateChangesRestore },
	},
	"other revisions are something else": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.TemplateChanges = "Ignore" },
		refused: `supported values: "ColdStart", "Restore"`,
	},
	"no wait": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.WaitFor = &metav1.Duration{} },
	},
	"a wait of an hour": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.WaitFor = &metav1.Duration{Duration: time.Hour} },
	},
	"a wait of more": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.WaitFor = &metav1.Duration{Duration: time.Hour + time.Second} },
		refused: "waitFor must be from 0s to 1h",
	},
	"a wait of less than nothing": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.WaitFor = &metav1.Duration{Duration: -time.Second} },
		refused: "spec.waitFor",
	},
	"no start without a restore": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.Fallback = v1alpha1.FallbackFail },
	},
	"a fallback that there is not": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Fallback = "Despair" },
		refused: `supported values: "ColdStart", "Previous", "Fail"`,
	},
	"a rule for processors that there is not": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Compatibility.CPU = "Strict" },
		refused: `supported values: "Subset", "Ignore"`,
	},
	"a rule for kernels that there is not": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Compatibility.Kernel = "Older" },
		refused: `supported values: "SameOrNewer", "Same", "Any"`,
	},
	"a rule for images that there is not": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.Compatibility.Image = "Newest" },
		refused: `supported values: "Same", "Ignore"`,
	},
	"other rules for machines": {
		with: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Compatibility = v1alpha1.RestoreCompatibility{CPU: v1alpha1.CPUIgnore, Kernel: v1alpha1.KernelAny, Image: v1alpha1.ImageIgnore}
		},
	},
	"an age of 90 minutes": {
		with: func(p *v1alpha1.RestorePolicy) { p.Spec.MaxAge = &metav1.Duration{Duration: 90 * time.Minute} },
	},
	"an age of nothing": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.MaxAge = &metav1.Duration{} },
		refused: "maxAge must be more than nothing",
	},
	"an age in the future": {
		with:    func(p *v1alpha1.RestorePolicy) { p.Spec.MaxAge = &metav1.Duration{Duration: -time.Hour} },
		refused: "spec.maxAge",
	},
}

var changedRestorePolicies = map[string]update[v1alpha1.RestorePolicy]{
	"restoring is switched off": {
		spec: func(p *v1alpha1.RestorePolicy) { p.Spec.Mode = v1alpha1.RestoreDisabled },
	},
	"another owner is another policy": {
		spec:    func(p *v1alpha1.RestorePolicy) { p.Spec.Owner.UID = otherPodUID },
		refused: "owner is immutable",
	},
	"an owner cannot give way to a selector": {
		spec:    func(p *v1alpha1.RestorePolicy) { p.Spec.Owner, p.Spec.Selector = nil, everyPod() },
		refused: "owner is immutable",
	},
	"a selector can change": {
		of: func(p *v1alpha1.RestorePolicy) { p.Spec.Owner, p.Spec.Selector = nil, everyPod() },
		spec: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}
		},
	},
	"the one that is named can change": {
		of: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreNamed, "db-0-0f2d4c1a"
		},
		spec: func(p *v1alpha1.RestorePolicy) { p.Spec.CheckpointName = "db-0-7c5d3a9d" },
	},
	"the newest again, and the name stays": {
		of: func(p *v1alpha1.RestorePolicy) {
			p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreNamed, "db-0-0f2d4c1a"
		},
		spec:    func(p *v1alpha1.RestorePolicy) { p.Spec.Source = v1alpha1.RestoreLatest },
		refused: "checkpointName goes with source Named only",
	},
	"pods are counted": {
		status: func(p *v1alpha1.RestorePolicy) { p.Status.Restored, p.Status.ColdStarted, p.Status.Failed = 3, 2, 1 },
	},
	"less than no pod cannot be counted": {
		status:  func(p *v1alpha1.RestorePolicy) { p.Status.Restored = -1 },
		refused: "status.restored",
	},
}

func TestNewRestorePolicies(t *testing.T) {
	ns := namespace(t)
	testCreations(t, client.CheckpointV1alpha1().RestorePolicies(ns), newRestorePolicy, newRestorePolicies)
}

func TestChangedRestorePolicies(t *testing.T) {
	ns := namespace(t)
	testUpdates(t, client.CheckpointV1alpha1().RestorePolicies(ns), newRestorePolicy, changedRestorePolicies)
}

func TestDefaultsOfARestorePolicy(t *testing.T) {
	ns := namespace(t)
	made := create(t, client.CheckpointV1alpha1().RestorePolicies(ns), newRestorePolicy, nil)
	want := newRestorePolicy()
	want.Spec.Mode, want.Spec.Source, want.Spec.Fallback = v1alpha1.RestoreEnabled, v1alpha1.RestoreLatest, v1alpha1.FallbackColdStart
	want.Spec.TemplateChanges, want.Spec.VolumeChanges = v1alpha1.TemplateChangesColdStart, v1alpha1.VolumeChangesColdStart
	want.Spec.Attempts, want.Spec.ContainerRestarts = new(int32(v1alpha1.DefaultAttempts)), new(int32(0))
	want.Spec.MaxAge, want.Spec.WaitFor = &metav1.Duration{Duration: v1alpha1.DefaultMaxAge}, &metav1.Duration{Duration: v1alpha1.DefaultWaitFor}
	want.Spec.Compatibility = v1alpha1.RestoreCompatibility{CPU: v1alpha1.CPUSubset, Kernel: v1alpha1.KernelSameOrNewer, Image: v1alpha1.ImageSame}
	want.Status.Conditions = []metav1.Condition{unseen(v1alpha1.RestorePolicyReady)}
	if diff := cmp.Diff(want.Spec, made.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Status, made.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}
