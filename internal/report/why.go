package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Why explains one pod.
type Why struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Workload  string `json:"workload"`
	Node      string `json:"node,omitempty"`
	// Protected tells whether it will be captured when it is terminated, and Protection why, or why not.
	Protected  bool   `json:"protected"`
	Protection Answer `json:"protection"`
	// Began is how it began: restored, cold, or not yet.
	Began Answer `json:"began"`
	// OnDelete is what happens when it is deleted, Next what a pod in its place would be restored from if this one were lost at this moment without a capture,
	// as by a power cut.
	OnDelete Answer `json:"onDelete"`
	Next     Answer `json:"next"`
	// Checkpoints are those of this pod, the newest first.
	Checkpoints []string `json:"checkpoints,omitempty"`
	// Unread is what could not be looked at, for want of a right.
	Unread []string `json:"unread,omitempty"`
}

// Answer is a short answer and what there is to say about it.
type Answer struct {
	// Short is one word or two; Reason is the API's reason for it, if there is one.
	Short  string `json:"short"`
	Reason string `json:"reason,omitempty"`
	// Details are sentences, and Mend is what a person can do about it.
	Details []string `json:"details,omitempty"`
	Mend    string   `json:"mend,omitempty"`
}

// Explain explains a pod.
func Explain(s *Snapshot, pod *corev1.Pod) Why {
	own := lineage.Of(pod)
	w := Why{
		Namespace: pod.Namespace, Pod: pod.Name, Node: pod.Spec.NodeName, Workload: s.workload(pod.Namespace, pod.Name, own.Owner), Unread: s.Unread,
	}
	w.Protected, w.Protection = s.protection(pod)
	w.Began = s.began(pod, own)
	w.OnDelete = s.onDelete(pod, w.Protected)
	w.Next = s.next(pod, own)
	var left []*v1alpha1.Checkpoint
	for i := range s.Checkpoints {
		if c := &s.Checkpoints[i]; c.Namespace == pod.Namespace && c.Status.Source != nil && c.Status.Source.PodUID == pod.UID {
			left = append(left, c)
		}
	}
	slices.SortFunc(left, newestFirst)
	for _, c := range left {
		w.Checkpoints = append(w.Checkpoints, c.Name)
	}
	return w
}

// protection says whether the pod is captured at its end.
func (s *Snapshot) protection(pod *corev1.Pod) (bool, Answer) {
	if !podspec.Asks(pod) {
		return false, Answer{Short: "no", Reason: "NotLabelled", Details: []string{"It does not have the label " + keys.CheckpointMode + "."},
			Mend: "Give the pod template the label " + keys.CheckpointMode + ": \"true\". It counts for pods that are made from then on."}
	}
	condition := podspec.Condition(pod, keys.Checkpointable)
	policy := matching.CheckpointPolicyOf(pod.Labels, s.checkpointPoliciesIn(pod.Namespace))
	by := "No CheckpointPolicy selects it: the defaults hold."
	if policy != nil {
		by = fmt.Sprintf("CheckpointPolicy %s holds for it.", policy.Name)
	}
	if condition == nil {
		return false, Answer{Short: "not known yet", Details: []string{by, "The operator has not looked at it yet."},
			Mend: "If that lasts for more than a few seconds: kubectl checkpoint doctor"}
	}
	a := Answer{Short: "no", Reason: condition.Reason, Details: []string{sentence(condition.Message)}, Mend: mends[condition.Reason]}
	if condition.Status != corev1.ConditionTrue {
		return false, a
	}
	a.Short = "yes"
	if condition.Reason == keys.CheckpointableProtected { // which says no more than yes
		a.Reason, a.Details = "", nil
	}
	a.Details = append(a.Details, by)
	return true, a
}

// mends say what a person can do about a reason of the conditions Checkpointable and Restored, where that is not in the message.
var mends = map[string]string{
	keys.UnprotectedNotAdmitted: "Delete the pod when it may begin anew: its successor is admitted. kubectl checkpoint doctor tells whether the webhook answers.",
	keys.UnprotectedPaused:      "Set paused of the CheckpointPolicy, or of the ConfigMap " + operator.ConfigMap + ", to false.",
	keys.UnprotectedNamespace:   "Add the namespace to the ConfigMap " + operator.ConfigMap + " (docs/operations.md).",
	keys.UnprotectedNoReadyNode: "kubectl checkpoint doctor tells what the nodes lack.",
	keys.ColdTemplateChanged:    "Work of an earlier revision is taken up only with a RestorePolicy that has templateChanges: Restore.",
	keys.ColdCheckpointTooOld:   "A RestorePolicy with a larger maxAge takes it up.",
	keys.ColdWaitTimeout:        "A RestorePolicy with a larger waitFor has pods wait for longer.",
	keys.ColdAgentUnavailable:   "kubectl checkpoint doctor tells what is wrong with the agent of the node.",
	keys.ColdRestoreFailed:      "kubectl checkpoint logs of that Checkpoint has CRIU's log; with fallback: Previous an older state is tried.",
	keys.ColdIncompatible:       "Nodes of one kind, or compatibility of the RestorePolicy (docs/compatibility.md).",
	keys.ColdVolumeAdvanced:     "A RestorePolicy with volumeChanges: Restore takes it up, for a program that bears volumes ahead of its memory.",
	keys.RestoreRefused:         "Mend the cause; or kubectl delete the RestorePolicy, or set its fallback to ColdStart, and the pod starts without its state.",
}

// sentence ends a message with a full stop, and begins it in upper case.
func sentence(message string) string {
	if message == "" {
		return ""
	}
	message = strings.ToUpper(message[:1]) + message[1:]
	if strings.HasSuffix(message, ".") {
		return message
	}
	return message + "."
}

// began says how the pod began.
func (s *Snapshot) began(pod *corev1.Pod, own lineage.Lineage) Answer {
	condition := podspec.Condition(pod, keys.Restored)
	switch {
	case condition != nil && condition.Status == corev1.ConditionTrue:
		return Answer{Short: "restored", Reason: condition.Reason, Details: []string{sentence(condition.Message)}}
	case condition != nil:
		short := "cold"
		if condition.Reason == keys.RestoreRefused || condition.Reason == keys.ColdIncomplete {
			short = "not yet"
		}
		return Answer{Short: short, Reason: condition.Reason, Details: []string{sentence(condition.Message)}, Mend: mends[condition.Reason]}
	case !podspec.Asks(pod):
		return Answer{Short: "cold", Reason: "NotLabelled"}
	case pod.Status.Phase != corev1.PodPending && pod.Status.Phase != "":
		return Answer{Short: "cold", Details: []string{"Nobody has said that it was restored."}}
	}
	a := s.choice(matching.Choose(s.facts(pod, own)))
	a.Short = "not yet, " + a.Short
	return a
}

// choice says what would be done about a pod.
func (s *Snapshot) choice(c matching.Choice) Answer {
	name := func(c *v1alpha1.Checkpoint) string {
		return fmt.Sprintf("Checkpoint %s, captured %s ago (%s)", c.Name, age(s.Now, takenAt(c)), c.Spec.Trigger)
	}
	switch {
	case c.Claim != nil && c.From != nil:
		return Answer{Short: "would be restored", Details: []string{name(c.From) + ", in place of " + c.Claim.Name + ".", sentence(c.Message)}}
	case c.Claim != nil:
		return Answer{Short: "would be restored", Details: []string{"From " + name(c.Claim) + "."}}
	case c.Begin != nil:
		return Answer{Short: "would be restored", Details: []string{"From " + name(c.Begin) + ", which it names by " + keys.RestoreFrom + "."}}
	case c.Wait != "":
		return Answer{Short: "would wait", Details: []string{sentence(c.Wait)}}
	case c.Refuse != "":
		return Answer{Short: "would not start", Reason: c.Refuse, Details: []string{sentence(c.Message)}, Mend: mends[keys.RestoreRefused]}
	}
	return Answer{Short: "would start cold", Reason: c.Cold, Details: []string{sentence(c.Message)}, Mend: mends[c.Cold]}
}

// onDelete says what happens when the pod is deleted.
func (s *Snapshot) onDelete(pod *corev1.Pod, protected bool) Answer {
	if !pod.DeletionTimestamp.IsZero() {
		return Answer{Short: "is being deleted", Details: []string{"Its Checkpoint is " + v1alpha1.TerminationName(pod.Name, pod.UID) + "."}}
	}
	if !protected {
		return Answer{Short: "ends", Details: []string{"It gets its stop signal, as without the operator, and its memory is lost."}}
	}
	var settings capture.Settings
	if err := json.Unmarshal([]byte(pod.Annotations[keys.Effective]), &settings); err != nil {
		return Answer{Short: "not known", Details: []string{fmt.Sprintf("The annotation %s cannot be read: %v.", keys.Effective, err)}}
	}
	containers := "all of its containers"
	if len(settings.Containers) > 0 {
		containers = strings.Join(settings.Containers, ", ")
	}
	a := Answer{Short: "is captured", Details: []string{fmt.Sprintf("Checkpoint %s: %s. It has %s for that; what is not captured by then gets its stop signal.",
		v1alpha1.TerminationName(pod.Name, pod.UID), containers, time.Duration(settings.GracePeriodSeconds)*time.Second)}}
	where := s.where(pod, settings)
	a.Details = append(a.Details, where.Details...)
	a.Mend = where.Mend
	return a
}

// where says where the state of a pod would be kept.
func (s *Snapshot) where(pod *corev1.Pod, settings capture.Settings) Answer {
	if v := settings.StorageVolume; v != nil {
		return Answer{Details: []string{fmt.Sprintf("The state is kept in the pod's volume %q.", v.Name)}}
	}
	if slices.Contains(s.Unread, "CheckpointStorageLocations") {
		return Answer{Details: []string{"You have no right to see where it is stored."}}
	}
	wanted := ""
	if policy := matching.CheckpointPolicyOf(pod.Labels, s.checkpointPoliciesIn(pod.Namespace)); policy != nil {
		wanted = policy.Spec.StorageLocation
	}
	for i := range s.Locations {
		l := &s.Locations[i]
		if wanted != l.Name && (wanted != "" || l.Spec.Role != v1alpha1.RoleDefault) {
			continue
		}
		state := "cannot be used"
		if reason, _, available := Availability(l); available {
			state = "available"
		} else if reason != "" {
			state += ", " + reason
		}
		a := Answer{Details: []string{fmt.Sprintf("The state is sent to the location %s (%s).", l.Name, state)}}
		if state != "available" {
			a.Mend = "Until the location can be used the state stays on its node, and is not lost: kubectl checkpoint location check " + l.Name
		}
		return a
	}
	missing := "there is no CheckpointStorageLocation with the role Default"
	if wanted != "" {
		missing = "there is no CheckpointStorageLocation " + wanted + ", which its CheckpointPolicy names"
	}
	return Answer{
		Details: []string{sentence("the state stays on its node: " + missing)}, Mend: "kubectl checkpoint location add NAME --endpoint=… --bucket=…, and --default",
	}
}

// next says what a pod in its place would be restored from.
func (s *Snapshot) next(pod *corev1.Pod, own lineage.Lineage) Answer {
	if !podspec.Asks(pod) {
		return Answer{Short: "would start cold", Reason: "NotLabelled"}
	}
	next := successor(pod, s.Now)
	f := s.facts(next, own)
	f.Siblings = slices.DeleteFunc(f.Siblings, func(p corev1.Pod) bool { return p.UID == pod.UID }) // as it is lost
	a := s.choice(matching.Choose(f))
	by := "No RestorePolicy applies to it: the defaults hold."
	if f.Policy != nil {
		by = fmt.Sprintf("RestorePolicy %s decides.", f.Policy.Name)
	}
	a.Details = append(a.Details, by)
	return a
}

// Write prints it for a person.
func (w Why) Write(out io.Writer) error {
	more := ""
	if w.Node != "" {
		more = " on " + w.Node
	}
	if w.Workload != "Pod/"+w.Pod {
		more += ", of " + w.Workload
	}
	if _, err := fmt.Fprintf(out, "Pod %s/%s%s\n", w.Namespace, w.Pod, more); err != nil {
		return err
	}
	for _, part := range []struct {
		title  string
		answer Answer
	}{
		{"Protected", w.Protection}, {"Began", w.Began}, {"When deleted", w.OnDelete}, {"If it were lost now, a pod in its place", w.Next},
	} {
		if err := part.answer.write(out, part.title); err != nil {
			return err
		}
	}
	if len(w.Checkpoints) > 0 {
		if _, err := fmt.Fprintf(out, "\nIt has left %d: %s\n", len(w.Checkpoints), strings.Join(w.Checkpoints, ", ")); err != nil {
			return err
		}
	}
	if len(w.Unread) > 0 {
		_, err := fmt.Fprintf(out, "\nYou have no right to read, so that the answers may be incomplete: %s\n", strings.Join(w.Unread, ", "))
		return err
	}
	return nil
}

func (a Answer) write(out io.Writer, title string) error {
	reason := ""
	if a.Reason != "" && !strings.Contains(strings.Join(a.Details, " "), a.Reason) {
		reason = " (" + a.Reason + ")"
	}
	if _, err := fmt.Fprintf(out, "\n%s: %s%s\n", title, a.Short, reason); err != nil {
		return err
	}
	for _, detail := range a.Details {
		if detail == "" {
			continue
		}
		if _, err := fmt.Fprintln(out, wrapped(detail, "  ")); err != nil {
			return err
		}
	}
	if a.Mend != "" {
		_, err := fmt.Fprintln(out, wrapped("→ "+a.Mend, "  "))
		return err
	}
	return nil
}
