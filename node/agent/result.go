package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// attemptPatience is after how long a restore that says nothing has been cut off: it is bounded by the runtime.
const attemptPatience = 3 * time.Minute

// outcome is what became of a decision so far.
type outcome struct {
	done     bool // nothing more will come
	refused  bool // a container does not start, as it was not restored, and is tried again
	consumed bool // an instruction of the captured program may have run
	status   corev1.ConditionStatus
	reason   string
	message  string
}

// judge puts the results of a decision's containers together.
func judge(d *capture.Decision, results []*capture.Result, now time.Time) outcome {
	if d.Action == capture.Cold {
		message := d.Message
		if message == "" {
			message = "started cold: " + d.Reason
		}
		return outcome{done: true, status: corev1.ConditionFalse, reason: d.Reason, message: byPolicy(message, d.Policy)}
	}
	o := outcome{status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint}
	restored, slowest, again, times := 0, time.Duration(0), "", 0
	for _, r := range results {
		o.consumed = o.consumed || r.Consumed
		switch {
		case r.Outcome == capture.Restored:
			restored++
			slowest, times = max(slowest, r.Total), r.Again
			if r.Again > 0 {
				again = fmt.Sprintf("; it has ended since, and was restored again, %d of %d times", r.Again, d.Restarts)
			}
		case d.Refuses(r):
			if o.refused || r.Follows != "" {
				continue
			}
			o.refused, o.message = true, fmt.Sprintf("%s: %s, container %q, Checkpoint %s: %s",
				capture.Refusal(d.Policy), cmp.Or(r.Reason, keys.ColdRestoreFailed), r.Container, d.Checkpoint, explainRestore(r))
		case r.Outcome == capture.RestoreFailed && o.status == corev1.ConditionTrue:
			o.status, o.reason = corev1.ConditionFalse, cmp.Or(r.Reason, keys.ColdRestoreFailed)
			o.message = fmt.Sprintf("container %q starts cold, Checkpoint %s was not restored: %s", r.Container, d.Checkpoint, explainRestore(r))
		case r.Outcome == capture.Attempted && now.Sub(r.Started) > attemptPatience && d.Fallback == capture.Refuse && r.Again == 0:
			o.refused, o.message = true, fmt.Sprintf("%s: %s, container %q: the restore of Checkpoint %s was cut off",
				capture.Refusal(d.Policy), keys.ColdRestoreFailed, r.Container, d.Checkpoint)
		case r.Outcome == capture.Attempted && now.Sub(r.Started) > attemptPatience && o.status == corev1.ConditionTrue:
			o.status, o.reason = corev1.ConditionFalse, keys.ColdRestoreFailed
			o.message = fmt.Sprintf("container %q: the restore of Checkpoint %s was cut off", r.Container, d.Checkpoint)
		}
	}
	if o.refused {
		return o
	}
	if o.status == corev1.ConditionTrue {
		by := ""
		if d.Policy != "" {
			by = " by RestorePolicy " + d.Policy
		}
		if d.Begins {
			by += ", as its " + keys.RestoreFrom + " says"
		}
		o.message = fmt.Sprintf("continues from Checkpoint %s%s, restored in %s", d.Checkpoint, by, v1alpha1.ReadableDuration(slowest).Duration) + again
		if d.Own {
			o.message = fmt.Sprintf("container %q had ended, and continues from Checkpoint %s, the last that this pod left%s, restored in %s, %d of %d times",
				d.Containers[0], d.Checkpoint, by, v1alpha1.ReadableDuration(slowest).Duration, times, d.Restarts)
		}
		if g := d.GivenUp; g != nil {
			o.reason = keys.RestoredFromPrevious
			o.message += fmt.Sprintf("; Checkpoint %s, which is newer, did not serve: %s", g.Checkpoint, g.Why)
		}
	}
	o.done = o.status == corev1.ConditionFalse || restored > 0 && restored == len(d.Containers)
	return o
}

// byPolicy says by which policy something was decided, unless that is said already.
func byPolicy(message, policy string) string {
	if policy == "" || strings.Contains(message, "RestorePolicy "+policy) {
		return message
	}
	return message + " (RestorePolicy " + policy + ")"
}

// report tells the API what became of a decided pod.
func (a *Agent) report(ctx context.Context, pod *corev1.Pod, d *capture.Decision) (ctrl.Result, error) {
	ctx = aboutDecision(ctx, pod, d)
	var results []*capture.Result
	for _, name := range d.Containers {
		r, err := a.Node.Result(string(pod.UID), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return ctrl.Result{}, err
		}
		results = append(results, r)
	}
	o := judge(d, results, a.Now())
	if o.refused && podspec.HasEnded(pod) { // kubelet does not try again
		o.done, o.status, o.reason = true, corev1.ConditionFalse, keys.RestoreRefused
	}
	if err := a.settleClaim(ctx, pod, o); err != nil {
		return ctrl.Result{}, err
	}
	conditions := []corev1.PodCondition{a.checkpointable(pod)}
	if said, err := os.ReadFile(filepath.Join(a.Node.Restores(string(pod.UID)), capture.AloneFile)); err == nil && !o.done {
		conditions = append(conditions, corev1.PodCondition{
			Type: keys.Restored, Status: corev1.ConditionFalse, Reason: keys.ColdIncomplete, Message: strings.TrimSpace(string(said)),
		})
	}
	if names := podspec.PostStart(pod); o.done && o.status == corev1.ConditionTrue && len(names) > 0 {
		o.message += "; kubelet runs the postStart hook of " + named(names) + " again"
	}
	a.addRestarts(&o, pod, d, results)
	if o.refused && !o.done {
		if err := a.tellRefusal(ctx, pod, o.message, conditions...); err != nil {
			return ctrl.Result{}, err
		}
		return a.reconsider(ctx, pod, d)
	}
	if !o.done {
		c := podspec.Condition(pod, keys.Restored) // until it is known better
		if c != nil && (d.Own || d.Fallback == capture.Refuse && c.Reason == keys.RestoreRefused || slices.ContainsFunc(results, wasRestored)) {
			conditions = append(conditions, *c)
		}
		if err := a.tell(ctx, pod, conditions...); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{RequeueAfter: undecidedInterval}, nil
	}
	failed, pending, err := a.restoreHooks(ctx, pod, results)
	if err != nil {
		return ctrl.Result{}, err
	}
	became := o.message
	o.message += failed
	old := podspec.Condition(pod, keys.Restored)
	err = a.tell(ctx, pod, append(conditions, corev1.PodCondition{Type: keys.Restored, Status: o.status, Reason: o.reason, Message: o.message})...)
	if err == nil && isNew(old, d, o.reason, became) {
		countRestore(d, o, results)
		ctrl.LoggerFrom(ctx).Info("it is known what the pod goes on from", "reason", o.reason, "message", o.message)
	}
	if keepErr := a.keepRestore(pod, d); keepErr != nil { // whoever looks for a cause has the less of it
		ctrl.LoggerFrom(ctx).Error(keepErr, "keep what the restore left")
	}
	if err == nil && d.Action == capture.Restore && (d.Restarts == 0 || podspec.HasEnded(pod)) {
		err = os.RemoveAll(a.statesOf(pod))
	}
	if pending && !podspec.HasEnded(pod) {
		return ctrl.Result{RequeueAfter: hooksInterval}, err
	}
	return ctrl.Result{}, err
}

// isNew tells by the condition that a pod had whether something else has become of it since, which its message begins with.
func isNew(old *corev1.PodCondition, d *capture.Decision, reason, message string) bool {
	return old == nil || d.Own && !strings.HasPrefix(old.Message, message) || old.Reason == keys.ColdIncomplete ||
		old.Reason == keys.RestoreRefused && reason != keys.RestoreRefused
}

// protection is what there is to say of a pod that runs under our runtime, and in which nothing was found.
func protection(pod *corev1.Pod) corev1.PodCondition {
	c := corev1.PodCondition{
		Type: keys.Checkpointable, Status: corev1.ConditionTrue, Reason: keys.CheckpointableProtected, Message: protectedMessage,
	}
	if names := podspec.PostStart(pod); len(names) > 0 {
		c.Message += "; when it is restored, kubelet runs the postStart hook of " + named(names) + " again"
	}
	if settings, err := capture.ParseSettings(pod.Annotations[keys.Effective]); err == nil && settings.AllowIOUring {
		c.Reason = keys.CheckpointableIOUringAllowed
		c.Message += ", unless it uses io_uring then, which cannot be captured: the annotation " + keys.IOUring + " lets it"
	}
	return c
}

// named lists containers, as container "a", "b".
func named(containers []string) string {
	return `container "` + strings.Join(containers, `", "`) + `"`
}

// restarted says which restored containers kubelet has started anew since: those began from scratch (design R6). It is empty when there are none.
func restarted(pod *corev1.Pod, d *capture.Decision, results []*capture.Result) string {
	var names []string
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		_, id, _ := strings.Cut(status.ContainerID, "://")
		for _, r := range results {
			if r.Container == status.Name && r.Outcome == capture.Restored && id != "" && id != r.ContainerID && status.RestartCount > 0 {
				names = append(names, status.Name)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	message := fmt.Sprintf("continued from Checkpoint %s; since then kubelet has started %s anew, from scratch", d.Checkpoint, named(names))
	switch {
	case d.NoRestarts != "":
		message += "; it is not restored again: " + d.NoRestarts
	case d.Restarts > 0:
		message += fmt.Sprintf("; containerRestarts of RestorePolicy %s is %d", d.Policy, d.Restarts)
	}
	return message
}

// wasRestored tells whether a container is being restored again, or has failed in that: it ran before.
func wasRestored(r *capture.Result) bool { return r.Again > 0 }

// claimNote is what lies beside a pod's decision from before its claim: which Checkpoint it may hold.
type claimNote struct {
	Namespace  string `json:"namespace"`
	Checkpoint string `json:"checkpoint"`
	PodName    string `json:"podName"`
}

func (a *Agent) claimFile(podUID string) string {
	return filepath.Join(a.Node.Restores(podUID), "claim.json")
}

// noteClaim writes down which Checkpoint is going to be claimed for a pod, so that the claim is settled whatever becomes of pod and agent. One that
// the pod holds from before, and no longer wants, is released first.
func (a *Agent) noteClaim(ctx context.Context, pod *corev1.Pod, checkpoint *v1alpha1.Checkpoint) error {
	if err := a.dropClaim(ctx, pod, checkpoint.Name); err != nil {
		return err
	}
	if err := os.MkdirAll(a.Node.Restores(string(pod.UID)), 0o700); err != nil {
		return err
	}
	return capture.WriteJSON(a.claimFile(string(pod.UID)), claimNote{pod.Namespace, checkpoint.Name, pod.Name})
}

// dropClaim releases what a pod holds from before, unless it is the Checkpoint of that name, and forgets it.
func (a *Agent) dropClaim(ctx context.Context, pod *corev1.Pod, but string) error {
	n, err := a.readClaimNote(string(pod.UID))
	if err != nil || n == nil || n.Checkpoint == but {
		return err
	}
	former := &v1alpha1.Checkpoint{}
	err = a.Client.Get(ctx, client.ObjectKey{Namespace: n.Namespace, Name: n.Checkpoint}, former)
	if err == nil {
		err = a.release(ctx, pod, former)
	}
	if err = errors.Join(client.IgnoreNotFound(err), os.RemoveAll(a.statesOf(pod))); err != nil {
		return err
	}
	return os.Remove(a.claimFile(string(pod.UID)))
}

// readClaimNote returns the note of a pod; nil when there is none.
func (a *Agent) readClaimNote(podUID string) (*claimNote, error) {
	data, err := os.ReadFile(a.claimFile(podUID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	n := &claimNote{}
	if err := errors.Join(err, json.Unmarshal(data, n)); err != nil {
		return nil, err
	}
	return n, nil
}

// settleClaim consumes the claim of a restore that ran, and releases that of one of which nothing has.
func (a *Agent) settleClaim(ctx context.Context, pod *corev1.Pod, o outcome) error {
	if !o.consumed && (!o.done || o.status != corev1.ConditionFalse) {
		return nil // there is nothing to say yet
	}
	n, err := a.readClaimNote(string(pod.UID))
	if n == nil {
		return err
	}
	checkpoint := &v1alpha1.Checkpoint{}
	err = a.Client.Get(ctx, client.ObjectKey{Namespace: n.Namespace, Name: n.Checkpoint}, checkpoint)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	claim, from := checkpoint.Status.Claim, ""
	if d, err := a.Node.Decision(string(pod.UID)); err == nil && d.Action == capture.Restore && d.Checkpoint != checkpoint.Name {
		if from = d.Checkpoint; d.Own && claim != nil { // it tells nothing of what the pod began with
			from = claim.RestoredFrom
		}
	}
	if claim == nil || claim.PodUID != pod.UID || claim.Phase == v1alpha1.ClaimConsumed && claim.RestoredFrom == from {
		return nil
	}
	switch {
	case o.consumed:
		err = a.consume(ctx, pod, checkpoint, from)
	case claim.Phase == v1alpha1.ClaimConsumed:
	case o.done && o.status == corev1.ConditionFalse:
		err = a.release(ctx, pod, checkpoint)
	}
	return client.IgnoreNotFound(err)
}

// settleGone settles the claim of a pod that is gone: consumed if an instruction may have run, else released. Then nothing of the pod is needed.
func (a *Agent) settleGone(ctx context.Context, podUID string) error {
	dir := a.Node.Restores(podUID)
	files, err := filepath.Glob(a.Node.ResultFile(podUID, "*"))
	if err != nil {
		return err
	}
	o := outcome{done: true, status: corev1.ConditionFalse}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "result-"), ".json")
		result, err := a.Node.Result(podUID, name)
		o.consumed = o.consumed || err != nil || result.Consumed
	}
	pod := &corev1.Pod{}
	pod.UID = uid(podUID)
	if n, err := a.readClaimNote(podUID); err == nil && n != nil {
		pod.Name = n.PodName
	}
	if err := a.settleClaim(ctx, pod, o); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
