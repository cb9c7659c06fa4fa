package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// postRestoreOf are the hooks that are run in a pod when it is restored: those of its own key, or else those of its RestorePolicy, nil if none applies.
func postRestoreOf(pod *corev1.Pod, policy *v1alpha1.RestorePolicy) []capture.Command {
	effective, err := capture.ParseSettings(pod.Annotations[keys.Effective])
	if err == nil && effective.PostRestore != nil {
		return effective.PostRestore
	}
	if policy == nil || policy.Spec.Hooks == nil {
		return nil
	}
	return settings.Commands(policy.Spec.Hooks.PostRestore)
}

// hookStatus is what a Checkpoint says of the hooks around its capture; nil when there were none.
func hookStatus(runs []capture.HookRun) *v1alpha1.CheckpointHookStatus {
	if len(runs) == 0 {
		return nil
	}
	return &v1alpha1.CheckpointHookStatus{Attempted: int32(len(runs)), Failed: int32(len(capture.FailedHooks(runs)))}
}

// failedHooks is what a condition says of hooks that failed, behind what else it says; empty when none did.
func failedHooks(runs []capture.HookRun) string {
	failed := capture.FailedHooks(runs)
	if len(failed) == 0 {
		return ""
	}
	text := "; " + failed[0].String()
	if more := len(failed) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more did", more)
	}
	return text
}

// otherFailedHooks is the same of a capture that failed, which may have done so by the first of them.
func otherFailedHooks(record *capture.Capture) string {
	text := failedHooks(record.Hooks)
	if record.Failure.Reason == capture.ReasonHookFailed && len(capture.FailedHooks(record.Hooks)) == 1 {
		return ""
	}
	return text
}

// countHooks counts what became of hooks.
func countHooks(runs []capture.HookRun) {
	for _, r := range runs {
		hooks.WithLabelValues(string(r.Phase), string(r.State)).Inc()
	}
}

// tellHooks counts the hooks around a capture, and tells of those that failed; the one that broke it off has been told of.
func (a *Agent) tellHooks(checkpoint *v1alpha1.Checkpoint, record *capture.Capture) {
	countHooks(record.Hooks)
	for _, r := range capture.FailedHooks(record.Hooks) {
		if record.Failure != nil && record.Failure.Message == r.String() {
			continue
		}
		a.event(checkpoint, record, corev1.EventTypeWarning, v1alpha1.ReasonHookFailed, r.String())
	}
}

// toldHooks is the agent's own file beside a pod's decision: what it has told of the hooks that were run there.
type toldHooks struct {
	Runs int `json:"runs"` // so many, from the first on
}

// restoreHooks tells of the hooks that were run in a restored pod, each once. It returns what its condition says of those that failed, and whether there are
// some that are still to be run; if nobody is at that, the runtime is.
func (a *Agent) restoreHooks(ctx context.Context, pod *corev1.Pod, results []*capture.Result) (failed string, pending bool, err error) {
	podUID := string(pod.UID)
	plan, err := a.Node.HookPlan(podUID)
	if err != nil || plan.IsEmpty() {
		return "", false, err
	}
	report, err := capture.ReadHookReport(a.Node.RestoreHooksFile(podUID))
	if err != nil {
		return "", false, err
	}
	pending = slices.ContainsFunc(results, func(r *capture.Result) bool {
		return r.Outcome == capture.Restored && !slices.Contains(report.Done, r.ContainerID)
	})
	if !pending {
		return failedHooks(report.Runs), false, a.tellRestoreHooks(pod, report.Runs)
	}
	planned, err := os.Stat(a.Node.HookPlanFile(podUID))
	if err == nil && a.Now().Sub(planned.ModTime()) > 2*settleAfter && !isLocked(a.Node.HookLock(podUID)) {
		ctrl.LoggerFrom(ctx).Info("the hooks of a restored pod are not being run; the runtime goes on with them")
		err = a.Settle(ctx, podUID)
	}
	return failedHooks(report.Runs), true, err
}

// tellRestoreHooks counts hooks that were run in a restored pod, and tells of those that failed, unless it has already.
func (a *Agent) tellRestoreHooks(pod *corev1.Pod, runs []capture.HookRun) error {
	path := filepath.Join(a.Node.Restores(string(pod.UID)), "agent-hooks.json")
	told := toldHooks{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &told)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if told.Runs >= len(runs) {
		return nil
	}
	runs, told.Runs = runs[told.Runs:], len(runs)
	countHooks(runs)
	for _, r := range capture.FailedHooks(runs) {
		a.Recorder.Eventf(pod, nil, corev1.EventTypeWarning, v1alpha1.ReasonHookFailed, "Restore", "%s", v1alpha1.EventNote(r.String()))
	}
	return capture.NoteJSON(path, told)
}

// hooksInterval is how often a restored pod is looked at whose hooks are still to be run.
const hooksInterval = time.Second
