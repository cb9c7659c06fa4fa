package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Status is how it stands with the operator, and with the pods that it looks after.
type Status struct {
	// Paused says why nothing is captured or restored; empty when it is.
	Paused string `json:"paused,omitempty"`
	// Nodes are all, and ReadyNodes those on which pods can be captured.
	Nodes      int `json:"nodes"`
	ReadyNodes int `json:"readyNodes"`
	// NotReady are the names of the others.
	NotReady []string `json:"notReady,omitempty"`
	// Protected and Unprotected count the labelled pods that go on; Why counts the latter by reason.
	Protected   int            `json:"protectedPods"`
	Unprotected int            `json:"unprotectedPods"`
	Why         map[string]int `json:"unprotectedByReason,omitempty"`
	// Restored and Cold count the labelled pods by how they began, and ColdWhy the latter by reason.
	Restored int            `json:"restoredPods"`
	Cold     int            `json:"coldPods"`
	ColdWhy  map[string]int `json:"coldByReason,omitempty"`
	// Checkpoints count by state.
	Checkpoints map[string]int `json:"checkpoints,omitempty"`
	// Bytes is what the complete ones hold, before compression.
	Bytes int64 `json:"bytes"`
	// OnNodesAlone are those that are not stored yet, and Oldest since when the oldest of them waits.
	OnNodesAlone int        `json:"onNodesAlone"`
	Oldest       *time.Time `json:"oldestOnNodesAlone,omitempty"`
	// Stalled are the Checkpoints that wait for a person, with why.
	Stalled map[string]string `json:"stalled,omitempty"`
	// Locations are the buckets.
	Locations []LocationStatus `json:"locations,omitempty"`
	Unread    []string         `json:"unread,omitempty"`

	now time.Time
}

// LocationStatus is how it stands with a bucket.
type LocationStatus struct {
	Name      string `json:"name"`
	Bucket    string `json:"bucket"`
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"`
	Default   bool   `json:"default"`
}

// StatusOf counts.
func StatusOf(s *Snapshot) Status {
	r := Status{
		Paused: s.Config.Paused, Nodes: len(s.Nodes), Unread: s.Unread, now: s.Now,
		Why: map[string]int{}, ColdWhy: map[string]int{}, Checkpoints: map[string]int{}, Stalled: map[string]string{},
	}
	for i := range s.Nodes {
		if s.Nodes[i].Labels[keys.NodeReady] == keys.True {
			r.ReadyNodes++
		} else {
			r.NotReady = append(r.NotReady, s.Nodes[i].Name)
		}
	}
	r.countPods(s)
	for i := range s.Checkpoints {
		c := &s.Checkpoints[i]
		state := State(c)
		r.Checkpoints[state]++
		switch {
		case state == v1alpha1.StateCompleted && c.Status.SizeBytes != nil:
			r.Bytes += *c.Status.SizeBytes
		case state == v1alpha1.StateUploading:
			r.OnNodesAlone++
			if at := takenAt(c); r.Oldest == nil || at.Before(*r.Oldest) {
				r.Oldest = &at
			}
		}
		if why := stalled(c); why != nil {
			r.Stalled[c.Namespace+"/"+c.Name] = why.Message
		}
	}
	for i := range s.Locations {
		l := &s.Locations[i]
		reason, _, available := Availability(l)
		r.Locations = append(r.Locations, LocationStatus{
			Name: l.Name, Bucket: l.Spec.Bucket, Available: available, Reason: reason, Default: l.Spec.Role == v1alpha1.RoleDefault,
		})
	}
	return r
}

func (r *Status) countPods(s *Snapshot) {
	for i := range s.Pods {
		pod := &s.Pods[i]
		if !podspec.Asks(pod) || podspec.HasEnded(pod) {
			continue
		}
		reason := "NotSeenYet"
		if c := podspec.Condition(pod, keys.Checkpointable); c != nil {
			reason = c.Reason
			if c.Status == corev1.ConditionTrue {
				reason = ""
			}
		}
		if reason == "" {
			r.Protected++
		} else {
			r.Unprotected++
			r.Why[reason]++
		}
		switch c := podspec.Condition(pod, keys.Restored); {
		case c == nil:
		case c.Status == corev1.ConditionTrue:
			r.Restored++
		default:
			r.Cold++
			r.ColdWhy[c.Reason]++
		}
	}
}

// Write prints it for a person.
func (r Status) Write(out io.Writer) error {
	d := &description{out: out}
	if r.Paused != "" {
		d.say("%s", wrapped("PAUSED: "+r.Paused, ""))
	}
	nodes := fmt.Sprintf("%d of %d are ready", r.ReadyNodes, r.Nodes)
	if len(r.NotReady) > 0 {
		nodes += "; not " + strings.Join(r.NotReady, ", ")
	}
	checkpoints := counts(r.Checkpoints)
	if r.Bytes > 0 {
		checkpoints += ", " + Bytes(r.Bytes) + " in all"
	}
	pairs := [][2]string{
		{"Nodes", nodes},
		{"Pods", fmt.Sprintf("%d protected, %d not%s", r.Protected, r.Unprotected, inBrackets(r.Why))},
		{"Began", fmt.Sprintf("%d restored, %d cold%s", r.Restored, r.Cold, inBrackets(r.ColdWhy))},
		{"Checkpoints", orNone(checkpoints)},
	}
	if r.Oldest != nil {
		pairs = append(pairs, [2]string{"On nodes alone", fmt.Sprintf("%d, the oldest for %s", r.OnNodesAlone, age(r.now, *r.Oldest))})
	}
	for _, l := range r.Locations {
		text := "bucket " + l.Bucket + ", " + map[bool]string{true: "available", false: "NOT AVAILABLE: " + l.Reason}[l.Available]
		if l.Default {
			text += ", the default"
		}
		pairs = append(pairs, [2]string{"Location " + l.Name, text})
	}
	if len(r.Locations) == 0 && !slices.Contains(r.Unread, "CheckpointStorageLocations") {
		pairs = append(pairs, [2]string{"Locations", "NONE: states stay on their nodes (kubectl checkpoint location add)"})
	}
	d.pairs(pairs)
	for _, name := range slices.Sorted(maps.Keys(r.Stalled)) {
		d.say("%s", wrapped("Stalled: Checkpoint "+name+": "+r.Stalled[name], "  "))
	}
	if len(r.Unread) > 0 {
		d.say("\nYou have no right to read: %s", strings.Join(r.Unread, ", "))
	}
	return d.err
}

func counts(of map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%d %s", of[name], name))
	}
	return strings.Join(parts, ", ")
}

func inBrackets(of map[string]int) string {
	if len(of) == 0 {
		return ""
	}
	return " (" + counts(of) + ")"
}
