package report

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// Progress is how far a capture has come.
type Progress struct {
	State string
	// Size is that of the state, in bytes; 0 as long as it is not known. Stored is how much of it is in the bucket, as far as the agent has said.
	Size, Stored int64
	// Rate is the average in bytes a second; 0 when it is not known.
	Rate int64
	// Frozen is for how long the program stood still.
	Frozen time.Duration
	// Waits is why it does not go on, for now.
	Waits string
}

// ProgressOf tells it of a Checkpoint.
func ProgressOf(c *v1alpha1.Checkpoint, now time.Time) Progress {
	p := Progress{State: State(c)}
	if c.Status.SizeBytes != nil {
		p.Size = *c.Status.SizeBytes
	}
	if c.Status.Frozen != nil {
		p.Frozen = c.Status.Frozen.Duration
	}
	if why := stalled(c); why != nil {
		p.Waits = why.Message
	} else if up := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointUploaded); up != nil && up.Reason == v1alpha1.ReasonStorageUnavailable {
		p.Waits = up.Message
	}
	switch up := c.Status.UploadedBytes; {
	case p.State == v1alpha1.StateCompleted:
		p.Stored = p.Size
	case up != nil:
		p.Stored = min(*up, p.Size)
	}
	if done := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointUploaded); done != nil && c.Status.CaptureTime != nil && p.Stored > 0 {
		end := now
		if done.Status == metav1.ConditionTrue {
			end = done.LastTransitionTime.Time
		}
		if took := end.Sub(c.Status.CaptureTime.Time); took >= time.Second { // the times have seconds
			p.Rate = int64(float64(p.Stored) / took.Seconds())
		}
	}
	return p
}

// Line is a line about it; with a bar for a terminal.
func (p Progress) Line(withBar bool) string {
	parts := []string{p.State}
	if withBar {
		parts = []string{fmt.Sprintf("%-10s", p.State), p.bar()}
	}
	switch {
	case p.Stored > 0 && p.Stored < p.Size:
		parts = append(parts, fmt.Sprintf("%s of %s", Bytes(p.Stored), Bytes(p.Size)))
	case p.Size > 0:
		parts = append(parts, Bytes(p.Size))
	}
	if p.Frozen > 0 {
		parts = append(parts, "stood still for "+p.Frozen.String())
	}
	if p.Rate > 0 {
		parts = append(parts, Bytes(p.Rate)+"/s")
	}
	if p.Waits != "" {
		parts = append(parts, "waits: "+p.Waits)
	}
	return strings.Join(parts, "  ")
}

// steps are the states on the way, in their order, and how much of the way lies behind when they are reached.
var steps = map[string]float64{
	v1alpha1.StatePending: 0, v1alpha1.StateDumping: 0.2, v1alpha1.StateUploading: 0.4, v1alpha1.StateCompleted: 1,
}

func (p Progress) bar() string {
	const length = 24
	part := steps[p.State]
	if p.State == v1alpha1.StateUploading && p.Size > 0 {
		part += 0.6 * float64(p.Stored) / float64(p.Size)
	}
	full := int(part * length)
	return "[" + strings.Repeat("█", full) + strings.Repeat("·", length-full) + "]"
}

// Outcome tells whether a capture has come to its end, and in the error why there is no state.
func Outcome(c *v1alpha1.Checkpoint) (done bool, err error) {
	switch state := State(c); state {
	case v1alpha1.StateCompleted:
		return true, nil
	case v1alpha1.StateFailed, v1alpha1.StateDiscarded, v1alpha1.StateExpired:
		message := ""
		if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil {
			message = ready.Message
		}
		return true, fmt.Errorf("the Checkpoint %s is %s: %s", c.Name, state, message)
	}
	return false, nil
}
