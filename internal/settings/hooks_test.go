package settings

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// hook is a command with the defaults.
func hook(words ...string) capture.Command {
	return capture.Command{Words: words, Timeout: 30 * time.Second}
}

func TestHooksOfKeys(t *testing.T) {
	for what, test := range map[string]struct {
		annotations, labels, namespace values
		want                           map[capture.HookPhase][]capture.Command
		warnings                       []string
	}{
		"none": {want: map[capture.HookPhase][]capture.Command{}},
		"an array of words": {
			annotations: values{keys.PreCheckpointHook: ` ["/bin/sh", "-c", "sync; sync", ""] `},
			want:        map[capture.HookPhase][]capture.Command{capture.PreCheckpoint: {hook("/bin/sh", "-c", "sync; sync", "")}},
		},
		"one word": {
			annotations: values{keys.PostRestoreHook: "/bin/hello"},
			want:        map[capture.HookPhase][]capture.Command{capture.PostRestore: {hook("/bin/hello")}},
		},
		"all that can be said of it": {
			annotations: values{
				keys.PostCheckpointHook: "sync", keys.PostCheckpointHookContainer: "log", keys.PostCheckpointHookTimeout: "1m30s",
				keys.PostCheckpointHookOnError: "Fail",
			},
			want: map[capture.HookPhase][]capture.Command{
				capture.PostCheckpoint: {{Container: "log", Words: []string{"sync"}, Timeout: 90 * time.Second, Breaks: true}},
			},
		},
		"no hook at all, whatever a policy says": {
			annotations: values{keys.PreCheckpointHook: "[]"},
			want:        map[capture.HookPhase][]capture.Command{capture.PreCheckpoint: {}},
		},
		"parts of it at several places": {
			annotations: values{keys.PreCheckpointHookTimeout: "5s"}, labels: values{keys.PreCheckpointHook: "sync"},
			namespace: values{keys.PreCheckpointHook: "other", keys.PreCheckpointHookOnError: "Fail"},
			want: map[capture.HookPhase][]capture.Command{
				capture.PreCheckpoint: {{Words: []string{"sync"}, Timeout: 5 * time.Second, Breaks: true}},
			},
		},
		"more of one that there is not": {
			annotations: values{keys.PostRestoreHookTimeout: "5s"},
			want:        map[capture.HookPhase][]capture.Command{},
			warnings: []string{"annotation memverge.ai/post-restore-hook-timeout has no meaning without memverge.ai/post-restore-hook, " +
				"and does not count"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := resolved(t, podOf(test.labels, test.annotations), Namespace{Name: "ns", Annotations: test.namespace})
			if diff := cmp.Diff(test.want, s.Hooks); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, s.Warnings); diff != "" {
				t.Errorf("warnings (-want +got)\n%s", diff)
			}
		})
	}
}

func TestHooksThatMeanNothing(t *testing.T) {
	const (
		may = `; it may be a JSON array of words, as ["sh", "-c", "sync"], one word, or [] for none`
		how = `; it may be a duration from 1s to 5m, as 30s`
	)
	many, err := json.Marshal(strings.Fields(strings.Repeat("x ", v1alpha1.MostHookWords+1)))
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct{ key, bad, says string }{
		"an empty command":      {keys.PreCheckpointHook, "", `is ""` + may},
		"several words":         {keys.PreCheckpointHook, "sh -c sync", `is "sh -c sync"` + may},
		"an array that is torn": {keys.PostCheckpointHook, `["sh"`, `is "[\"sh\""` + may},
		"one of numbers":        {keys.PostCheckpointHook, `[1]`, `is "[1]"` + may},
		"one without a program": {keys.PostRestoreHook, `["", "x"]`, `is "[\"\", \"x\"]"` + may},
		"too many words":        {keys.PostRestoreHook, string(many), `has 33 words; it may have 32`},
		"too long a word":       {keys.PostRestoreHook, strings.Repeat("x", 2049), `has a word of more bytes than 2048`},
		"no container":          {keys.PostRestoreHookContainer, " ", `is " "; it may be the name of a container`},
		"too short a time":      {keys.PreCheckpointHookTimeout, "999ms", `is "999ms"` + how},
		"too long a time":       {keys.PreCheckpointHookTimeout, "5m1s", `is "5m1s"` + how},
		"a number":              {keys.PreCheckpointHookTimeout, "30", `is "30"` + how},
		"another way to write":  {keys.PreCheckpointHookTimeout, "1.5s", `is "1.5s"` + how},
		"what there is not":     {keys.PostCheckpointHookOnError, "fail", `is "fail"; it may be "Continue" or "Fail"`},
	} {
		t.Run(what, func(t *testing.T) {
			bad := values{test.key: test.bad}
			says := "annotation " + test.key + " " + test.says
			if _, err := Resolve(podOf(nil, bad), Namespace{}); err == nil || err.Error() != says {
				t.Errorf("at a pod: %v, want %s", err, says)
			}
			s, err := Resolve(podOf(nil, nil), Namespace{Name: "ns", Annotations: bad})
			want := []string{"annotation " + test.key + " of Namespace ns " + test.says + "; it does not count"}
			if diff := cmp.Diff(want, s.Warnings); err != nil || diff != "" {
				t.Errorf("at a Namespace: %v (-want +got)\n%s", err, diff)
			}
		})
	}
}

func TestHooksOfKeysGoBeforeThoseOfPolicies(t *testing.T) {
	policy := &v1alpha1.CheckpointPolicy{Spec: v1alpha1.CheckpointPolicySpec{Hooks: &v1alpha1.CheckpointHooks{
		PreCheckpoint: []v1alpha1.Hook{
			{Exec: v1alpha1.HookExec{Command: []string{"one"}}, OnError: v1alpha1.HookContinue},
			{Container: "log", Exec: v1alpha1.HookExec{Command: []string{"two"}}, OnError: v1alpha1.HookFail, Timeout: &metav1.Duration{Duration: time.Minute}},
			{Container: "db", Exec: v1alpha1.HookExec{Command: []string{"three"}}},
		},
		PostCheckpoint: []v1alpha1.Hook{{Exec: v1alpha1.HookExec{Command: []string{"four"}}}},
	}}}
	two := capture.Command{Container: "log", Words: []string{"two"}, Timeout: time.Minute, Breaks: true}
	for what, test := range map[string]struct {
		annotations values
		policy      *v1alpha1.CheckpointPolicy
		want        capture.Settings
		lost        []string
	}{
		"neither": {},
		"the policy's, but those for other containers": {
			policy: policy, want: capture.Settings{PreCheckpoint: []capture.Command{hook("one"), two}, PostCheckpoint: []capture.Command{hook("four")}},
		},
		"a key for one list": {
			policy: policy, annotations: values{keys.PreCheckpointHook: "mine"},
			want: capture.Settings{PreCheckpoint: []capture.Command{hook("mine")}, PostCheckpoint: []capture.Command{hook("four")}},
		},
		"a key that says none": {
			policy: policy, annotations: values{keys.PostCheckpointHook: "[]", keys.PostRestoreHook: "[]"},
			want: capture.Settings{
				PreCheckpoint: []capture.Command{hook("one"), two}, PostCheckpoint: []capture.Command{}, PostRestore: []capture.Command{},
			},
		},
		"a key for a container that is not captured": {
			annotations: values{keys.PreCheckpointHook: "mine", keys.PreCheckpointHookContainer: "proxy"},
			want:        capture.Settings{PreCheckpoint: []capture.Command{}},
			lost: []string{`the hook of annotation memverge.ai/pre-checkpoint-hook is not run: ` +
				`container "proxy" of annotation memverge.ai/pre-checkpoint-hook-container is not captured`},
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := resolved(t, podOf(nil, test.annotations), Namespace{})
			test.want.Containers = []string{"app", "log"}
			got := capture.Settings{Containers: test.want.Containers}
			s.AddTo(&got, test.policy)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(test.lost, s.LostHooks(got.Containers)); diff != "" {
				t.Errorf("lost (-want +got)\n%s", diff)
			}
			data, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			again := capture.Settings{}
			if err := json.Unmarshal(data, &again); err != nil || (again.PostRestore == nil) != (got.PostRestore == nil) {
				t.Errorf("that there are none behind a restore is lost in %s: %v", data, err)
			}
		})
	}
}
