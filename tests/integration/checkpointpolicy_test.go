package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func newCheckpointPolicy() *v1alpha1.CheckpointPolicy {
	return &v1alpha1.CheckpointPolicy{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"},
		Spec:       v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
}

func including(names ...string) *v1alpha1.ContainerSelection {
	return &v1alpha1.ContainerSelection{Include: names}
}

func excluding(names ...string) *v1alpha1.ContainerSelection {
	return &v1alpha1.ContainerSelection{Exclude: names}
}

// hooks are hooks of both kinds, of which one differs.
func hooks(change func(*v1alpha1.Hook)) *v1alpha1.CheckpointHooks {
	return &v1alpha1.CheckpointHooks{PreCheckpoint: []v1alpha1.Hook{newHook(change)}, PostCheckpoint: []v1alpha1.Hook{newHook(nil)}}
}

func newHook(change func(*v1alpha1.Hook)) v1alpha1.Hook {
	h := v1alpha1.Hook{Container: "web", Exec: v1alpha1.HookExec{Command: []string{"sync", ""}}, OnError: v1alpha1.HookFail,
		Timeout: &metav1.Duration{Duration: time.Minute}}
	if change != nil {
		change(&h)
	}
	return h
}

var newCheckpointPolicies = map[string]creation[v1alpha1.CheckpointPolicy]{
	"one for some pods": {
		with: func(*v1alpha1.CheckpointPolicy) {},
	},
	"one for all pods": {
		with: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Selector = everyPod() },
	},
	"one for nobody": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Selector = nil },
		refused: "spec.selector",
	},
	"an interval and a schedule": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Triggers = &v1alpha1.CheckpointTriggers{
				Interval: &metav1.Duration{Duration: 10 * time.Second},
				Schedule: &v1alpha1.CheckpointSchedule{Cron: "0 3 * * *", TimeZone: "Europe/Berlin", Jitter: &metav1.Duration{Duration: time.Minute}},
			}
		},
	},
	"triggers that are none": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Triggers = &v1alpha1.CheckpointTriggers{} },
		refused: "interval or schedule must be set",
	},
	"an interval that is too short": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Triggers = &v1alpha1.CheckpointTriggers{Interval: &metav1.Duration{Duration: 9 * time.Second}}
		},
		refused: "interval must be 10s or more",
	},
	"containers by their names": {
		with: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Containers = including("web", "istio-proxy") },
	},
	"containers that are left out": {
		with: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Containers = excluding("log") },
	},
	"containers in both ways": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Containers = &v1alpha1.ContainerSelection{Include: []string{"web"}, Exclude: []string{"log"}}
		},
		refused: "exactly one of include and exclude must be set",
	},
	"containers in neither way": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Containers = &v1alpha1.ContainerSelection{} },
		refused: "exactly one of include and exclude must be set",
	},
	"what no container can be called": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Containers = including("Web_1") },
		refused: "spec.containers.include",
	},
	"a container twice": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Containers = excluding("log", "log") },
		refused: "Duplicate value",
	},
	"a location": {
		with: func(p *v1alpha1.CheckpointPolicy) { p.Spec.StorageLocation = "archive" },
	},
	"what no location can be called": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.StorageLocation = "s3/archive" },
		refused: "storageLocation must be the name of a location",
	},
	"none of them kept": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Retention.KeepLast = new(int32(0)) },
		refused: "spec.retention.keepLast",
	},
	"a ttl of an hour and a half": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Retention.TTL = &metav1.Duration{Duration: 90 * time.Minute}
		},
	},
	"a size of 20Gi": {
		with: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Retention.MaxSize = new(resource.MustParse("20Gi")) },
	},
	"a size of nothing": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Retention.MaxSize = new(resource.MustParse("0")) },
		refused: "maxSize must be more than nothing",
	},
	"a ttl of nothing": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Retention.TTL = &metav1.Duration{} },
		refused: "ttl must be more than nothing",
	},
	"hooks": {
		with: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Hooks = hooks(nil) },
	},
	"the shortest hook": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Container, h.OnError, h.Timeout = "", "", nil })
		},
	},
	"hooks that are none": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Hooks = &v1alpha1.CheckpointHooks{} },
		refused: "preCheckpoint or postCheckpoint must be set",
	},
	"too many hooks": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = &v1alpha1.CheckpointHooks{PostCheckpoint: slices.Repeat([]v1alpha1.Hook{newHook(nil)}, v1alpha1.MostHooks+1)}
		},
		refused: "spec.hooks.postCheckpoint",
	},
	"a hook without a program": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Exec.Command = []string{"", "x"} })
		},
		refused: "the first word of command must be a program",
	},
	"a hook of no words": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Exec.Command = []string{} })
		},
		refused: "spec.hooks.preCheckpoint[0].exec.command",
	},
	"a hook of too many words": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Exec.Command = slices.Repeat([]string{"x"}, v1alpha1.MostHookWords+1) })
		},
		refused: "spec.hooks.preCheckpoint[0].exec.command",
	},
	"a hook of too long a word": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Exec.Command = []string{strings.Repeat("x", v1alpha1.MostHookWordBytes+1)} })
		},
		refused: "spec.hooks.preCheckpoint[0].exec.command[0]",
	},
	"a hook in what no container can be called": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Container = "Web_1" })
		},
		refused: "spec.hooks.preCheckpoint[0].container",
	},
	"a hook with an onError that there is not": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.OnError = "Panic" })
		},
		refused: `supported values: "Continue", "Fail"`,
	},
	"a hook that ends too soon": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Timeout = &metav1.Duration{Duration: 999 * time.Millisecond} })
		},
		refused: "timeout must be from 1s to 5m",
	},
	"a hook that may take too long": {
		with: func(p *v1alpha1.CheckpointPolicy) {
			p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.Timeout = &metav1.Duration{Duration: 301 * time.Second} })
		},
		refused: "timeout must be from 1s to 5m",
	},
	"a disposal that there is not": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Retention.OnOwnerDeleted = "Recycle" },
		refused: `supported values: "Delete", "Keep"`,
	},
	"another disposal that there is not": {
		with:    func(p *v1alpha1.CheckpointPolicy) { p.Spec.Retention.OnOwnerCompleted = "Frame" },
		refused: `supported values: "Delete", "Keep"`,
	},
}

var changedCheckpointPolicies = map[string]update[v1alpha1.CheckpointPolicy]{
	"it is paused": {
		spec: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Paused = true },
	},
	"its selector changes": {
		spec: func(p *v1alpha1.CheckpointPolicy) { p.Spec.Selector = everyPod() },
	},
	"fewer pods than none": {
		status:  func(p *v1alpha1.CheckpointPolicy) { p.Status.MatchedPods = -1 },
		refused: "status.matchedPods",
	},
}

func TestNewCheckpointPolicies(t *testing.T) {
	ns := namespace(t)
	testCreations(t, client.CheckpointV1alpha1().CheckpointPolicies(ns), newCheckpointPolicy, newCheckpointPolicies)
}

func TestChangedCheckpointPolicies(t *testing.T) {
	ns := namespace(t)
	testUpdates(t, client.CheckpointV1alpha1().CheckpointPolicies(ns), newCheckpointPolicy, changedCheckpointPolicies)
}

func TestDefaultsOfACheckpointPolicy(t *testing.T) {
	ns := namespace(t)
	made := create(t, client.CheckpointV1alpha1().CheckpointPolicies(ns), newCheckpointPolicy, nil)
	want := newCheckpointPolicy()
	want.Spec.Retention = v1alpha1.RetentionOf(nil) // the same as without a policy
	want.Status.Conditions = []metav1.Condition{unseen(v1alpha1.CheckpointPolicyReady)}
	if diff := cmp.Diff(want.Spec, made.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Status, made.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}
