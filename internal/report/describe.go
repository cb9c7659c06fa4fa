package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// Describe prints all that is known of a Checkpoint, for a person. events are those about it.
func Describe(out io.Writer, s *Snapshot, c *v1alpha1.Checkpoint, events []corev1.Event) error {
	d := &description{out: out}
	d.say("Checkpoint %s/%s", c.Namespace, c.Name)
	d.pairs(s.who(c))
	d.say("")
	d.say("State: %s", State(c))
	said := map[string]bool{"": true}
	for _, condition := range c.Status.Conditions {
		if !said[condition.Message] && (condition.Status != metav1.ConditionTrue || condition.Type == v1alpha1.CheckpointStalled) {
			said[condition.Message] = true
			d.say("%s", wrapped(condition.Type+": "+condition.Message, "  "))
		}
	}
	d.timings(c)
	d.contents(c)
	d.machine(c)
	if c.Status.LogTail != "" {
		d.say("\nThe end of the log of the capture (all of it: kubectl checkpoint logs %s):", c.Name)
		d.say("  %s", strings.ReplaceAll(c.Status.LogTail, "\n", "\n  "))
	}
	if len(events) > 0 {
		d.say("\nEvents:")
		d.events(s, events)
	}
	return d.err
}

// description collects the first error of writing.
type description struct {
	out io.Writer
	err error
}

func (d *description) say(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.out, format+"\n", args...)
	}
}

func (d *description) table(rows [][]string) {
	if d.err == nil {
		d.err = table(d.out, rows)
	}
}

// pairs prints names with what they have; those that have nothing are left out.
func (d *description) pairs(pairs [][2]string) {
	var rows [][]string
	for _, pair := range pairs {
		if pair[1] != "" {
			rows = append(rows, []string{"  " + pair[0] + ":", pair[1]})
		}
	}
	d.table(rows)
}

// who says of what it is, where that is kept, and who has it.
func (s *Snapshot) who(c *v1alpha1.Checkpoint) [][2]string {
	pairs := [][2]string{{"Pod", c.Spec.SourcePodName}, {"Workload", s.workloadOf(c)}}
	if source := c.Status.Source; source != nil {
		pairs = append(pairs, [2]string{"Node", source.Node}, [2]string{"Lineage", source.Lineage}, [2]string{"Place", source.Identity},
			[2]string{"Line began from", source.RestoreFrom})
	}
	pairs = append(pairs, [2]string{"Trigger", string(c.Spec.Trigger)})
	switch v := c.Status.Volume; {
	case v != nil:
		pairs = append(pairs, [2]string{"Kept in", v.String() + ", file " + v.File})
	case c.Status.LocationName != "":
		pairs = append(pairs, [2]string{"Kept in", "location " + c.Status.LocationName})
	}
	if claim := c.Status.Claim; claim != nil {
		taken := fmt.Sprintf("pod %s on %s (%s)", claim.PodName, claim.Node, claim.Phase)
		if claim.RestoredFrom != "" {
			taken += ", which went on from Checkpoint " + claim.RestoredFrom + " instead"
		}
		pairs = append(pairs, [2]string{"Taken by", taken})
	}
	if pinned(c) == "yes" {
		pairs = append(pairs, [2]string{"Pinned", "no rule ends it"})
	}
	if h := c.Status.Hooks; h != nil {
		pairs = append(pairs, [2]string{"Hooks", fmt.Sprintf("%d run, %d failed", h.Attempted, h.Failed)})
	}
	return pairs
}

// step is one of a capture, from one moment to another.
type step struct {
	name     string
	from, to time.Time
}

// bar is the length of the longest bar.
const bar = 40

// timings draw how long each step took.
func (d *description) timings(c *v1alpha1.Checkpoint) {
	steps := stepsOf(c)
	if len(steps) == 0 {
		return
	}
	longest := time.Duration(1)
	for _, s := range steps {
		longest = max(longest, s.to.Sub(s.from))
	}
	d.say("\nTimings:")
	var rows [][]string
	for _, s := range steps {
		took := s.to.Sub(s.from)
		length := int(int64(bar) * int64(took) / int64(longest))
		rows = append(rows, []string{"  " + s.name, v1alpha1.ReadableDuration(took).Duration.String(), strings.Repeat("█", max(length, 1))})
	}
	d.table(rows)
	if frozen := c.Status.Frozen; frozen != nil && c.Status.SizeBytes != nil && frozen.Duration > 0 {
		d.say("  The program stood still for %s, for %s: %s/s.", frozen.Duration, sizeOf(c), Bytes(int64(float64(*c.Status.SizeBytes)/frozen.Seconds())))
	}
}

// stepsOf are the steps of which begin and end are known: conditions have seconds, the freeze has more.
func stepsOf(c *v1alpha1.Checkpoint) []step {
	var steps []step
	if c.Status.CaptureTime == nil {
		return nil
	}
	cut := c.Status.CaptureTime.Time
	if before := cut.Sub(c.CreationTimestamp.Time); before > 0 {
		steps = append(steps, step{name: "asked for until captured", from: c.CreationTimestamp.Time, to: cut})
	}
	if f := c.Status.Frozen; f != nil {
		steps = append(steps, step{name: "frozen", from: cut, to: cut.Add(f.Duration)})
	}
	uploaded := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointUploaded)
	if uploaded != nil && uploaded.Status == metav1.ConditionTrue {
		steps = append(steps, step{name: "captured until stored", from: cut, to: uploaded.LastTransitionTime.Time})
	}
	return steps
}

// contents say which containers it has.
func (d *description) contents(c *v1alpha1.Checkpoint) {
	if len(c.Status.Containers) == 0 {
		return
	}
	d.say("\nContents: %s", sizeOf(c))
	rows := [][]string{{"  CONTAINER", "MEMORY", "IMAGE"}}
	for _, container := range c.Status.Containers {
		memory := none
		if container.MemoryBytes != nil {
			memory = Bytes(*container.MemoryBytes)
		}
		rows = append(rows, []string{"  " + container.Name, memory, orNone(container.Image)})
	}
	d.table(rows)
}

// machine says what it needs of a node.
func (d *description) machine(c *v1alpha1.Checkpoint) {
	m := c.Status.Machine
	if m == nil {
		return
	}
	d.say("\nCompatibility: it can go on where a node has")
	pairs := [][2]string{
		{"Architecture", m.Architecture}, {"Kernel", m.Kernel + " or newer, as RestorePolicies say it by default"}, {"Page size", Bytes(m.PageSizeBytes)},
	}
	if m.XSaveBytes > 0 {
		pairs = append(pairs, [2]string{"Room for registers", fmt.Sprintf("%d bytes", m.XSaveBytes)})
	}
	d.pairs(pairs)
	if m.Instructions != "" {
		d.say("  Instructions:")
		d.say("%s", wrapped(m.Instructions, "    "))
	}
}

func (d *description) events(s *Snapshot, events []corev1.Event) {
	slices.SortFunc(events, func(x, y corev1.Event) int { return lastSeen(&x).Compare(lastSeen(&y)) })
	rows := [][]string{{"  AGE", "TYPE", "REASON", "MESSAGE"}}
	for i := range events {
		e := &events[i]
		rows = append(rows, []string{"  " + age(s.Now, lastSeen(e)), e.Type, e.Reason, e.Message})
	}
	d.table(rows)
}

// lastSeen is when an event was last seen, by whichever of its fields the reporter fills.
func lastSeen(e *corev1.Event) time.Time {
	for _, at := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time, e.CreationTimestamp.Time} {
		if !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}
