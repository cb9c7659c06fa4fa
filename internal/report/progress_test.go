package report

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestProgressIsAsFarAsTheBytesAre(t *testing.T) {
	captured := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	of := func(state string, size, uploaded *int64) *v1alpha1.Checkpoint {
		c := &v1alpha1.Checkpoint{}
		c.Status.SizeBytes, c.Status.UploadedBytes = size, uploaded
		c.Status.CaptureTime = &metav1.Time{Time: captured}
		status := metav1.ConditionFalse
		if state == v1alpha1.StateCompleted {
			status = metav1.ConditionTrue
		}
		c.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.CheckpointReady, Status: status, Reason: state},
			{Type: v1alpha1.CheckpointUploaded, Status: status, Reason: state, LastTransitionTime: metav1.Time{Time: captured.Add(16 * time.Second)}},
		}
		return c
	}
	size, quarter := int64(1<<30), int64(256<<20)
	for what, test := range map[string]struct {
		checkpoint  *v1alpha1.Checkpoint
		line, onTTY string
	}{
		"begun":      {of(v1alpha1.StatePending, nil, nil), "Pending", "[" + strings.Repeat("·", 24) + "]"},
		"captured":   {of(v1alpha1.StateUploading, &size, nil), "Uploading  1Gi", "[" + strings.Repeat("█", 9) + strings.Repeat("·", 15) + "]  1Gi"},
		"on its way": {of(v1alpha1.StateUploading, &size, &quarter), "Uploading  256Mi of 1Gi  32Mi/s", strings.Repeat("█", 13) + strings.Repeat("·", 11)},
		"done":       {of(v1alpha1.StateCompleted, &size, nil), "Completed  1Gi  64Mi/s", "[" + strings.Repeat("█", 24) + "]"},
	} {
		t.Run(what, func(t *testing.T) {
			p := ProgressOf(test.checkpoint, captured.Add(8*time.Second))
			if got := p.Line(false); got != test.line {
				t.Errorf("a line is %q, want %q", got, test.line)
			}
			if got := p.Line(true); !strings.Contains(got, test.onTTY) {
				t.Errorf("on a terminal it is %q, without %q", got, test.onTTY)
			}
		})
	}
}
