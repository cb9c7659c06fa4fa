package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// none is what stands in a table where there is nothing.
const none = "–"

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

// age is how long ago something was, as kubectl says it.
func age(now, then time.Time) string {
	if then.IsZero() {
		return none
	}
	return duration.HumanDuration(now.Sub(then))
}

// table prints rows in columns. The first is the heading.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// wrapped breaks a text into lines, each after an indent.
func wrapped(text, indent string) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(indent+line+" "+word)) > width {
			lines, line = append(lines, indent+line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, indent+line), "\n")
}

// width is that of a text for a person.
const width = 110

// State is how far a Checkpoint has come: the reason of its condition Ready.
func State(c *v1alpha1.Checkpoint) string {
	if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil {
		return ready.Reason
	}
	return v1alpha1.StatePending
}

// stalled returns the condition of a Checkpoint that cannot go on; nil when it can.
func stalled(c *v1alpha1.Checkpoint) *metav1.Condition {
	if s := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointStalled); s != nil && s.Status == metav1.ConditionTrue {
		return s
	}
	return nil
}
