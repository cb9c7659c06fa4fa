package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

// Listed is a Checkpoint in a list.
type Listed struct {
	Checkpoint *v1alpha1.Checkpoint
	// Workload is as Deployment/web.
	Workload string
	// Next tells whether a new pod of the workload, in the same place, would be restored from it if it were made at this moment.
	Next bool
}

// List returns the Checkpoints of a workload by workload, and of each the newest first. workload is as deployment/web, deploy/web, web, or empty for all. There
// is an error when nothing has that name.
func List(s *Snapshot, workload string) ([]Listed, error) {
	var all []Listed
	for i := range s.Checkpoints {
		c := &s.Checkpoints[i]
		l := Listed{Checkpoint: c, Workload: s.workloadOf(c)}
		if workload == "" || isCalled(l.Workload, workload) || c.Spec.SourcePodName == strings.TrimPrefix(workload, "pod/") {
			all = append(all, l)
		}
	}
	if workload != "" && len(all) == 0 && !s.isThere(workload) {
		return nil, fmt.Errorf("nothing that has left a Checkpoint, and no labelled pod, is of %q; it may be a workload, as deployment/web, or a pod", workload)
	}
	slices.SortFunc(all, func(x, y Listed) int {
		return cmp.Or(cmp.Compare(x.Checkpoint.Namespace, y.Checkpoint.Namespace), cmp.Compare(x.Workload, y.Workload), newestFirst(x.Checkpoint, y.Checkpoint))
	})
	s.markNext(all)
	return all, nil
}

func (s *Snapshot) workloadOf(c *v1alpha1.Checkpoint) string {
	if c.Status.Source == nil {
		return s.workload(c.Namespace, c.Spec.SourcePodName, nil)
	}
	return s.workload(c.Namespace, c.Spec.SourcePodName, c.Status.Source.Owner)
}

// isThere tells whether there is a pod of a workload.
func (s *Snapshot) isThere(workload string) bool {
	return slices.ContainsFunc(s.Pods, func(p corev1.Pod) bool {
		return isCalled(s.workload(p.Namespace, p.Name, lineage.Of(&p).Owner), workload) || p.Name == strings.TrimPrefix(workload, "pod/")
	})
}

// short are kubectl's short names of kinds.
var short = map[string]string{"deploy": "deployment", "sts": "statefulset", "ds": "daemonset", "rs": "replicaset", "po": "pod"}

// isCalled tells whether a workload, as Deployment/web, is meant by a name: deployment/web, deployments.apps/web, deploy/web or web.
func isCalled(workload, name string) bool {
	kind, own, _ := strings.Cut(workload, "/")
	wanted, rest, found := strings.Cut(name, "/")
	if !found {
		return own == name
	}
	wanted, _, _ = strings.Cut(strings.ToLower(wanted), ".")
	if long, is := short[wanted]; is {
		wanted = long
	}
	return own == rest && strings.TrimSuffix(wanted, "s") == strings.TrimSuffix(strings.ToLower(kind), "s")
}

// markNext finds for each place of each workload what a new pod would take.
func (s *Snapshot) markNext(all []Listed) {
	type place struct{ namespace, lineage, identity, restoreFrom string }
	seen, next := map[place]bool{}, map[string]bool{}
	for _, l := range all {
		source := l.Checkpoint.Status.Source
		if source == nil {
			continue
		}
		at := place{l.Checkpoint.Namespace, source.Lineage, source.Identity, source.RestoreFrom}
		if seen[at] {
			continue
		}
		seen[at] = true
		pod, own := ofSource(l.Checkpoint, s.Now)
		if chosen := matching.Choose(s.facts(pod, own)); chosen.Claim != nil {
			c := chosen.Claim
			if chosen.From != nil {
				c = chosen.From
			}
			next[c.Namespace+"/"+c.Name] = true
		}
	}
	for i := range all {
		all[i].Next = next[all[i].Checkpoint.Namespace+"/"+all[i].Checkpoint.Name]
	}
}

// WriteList prints them for a person: with namespaces where those of all are listed, and wide with what kubectl get -o wide has.
func WriteList(out io.Writer, s *Snapshot, all []Listed, wide bool) error {
	heading := []string{"WORKLOAD", "NAME", "POD", "STATE", "SIZE", "FROZEN", "AGE", "TRIGGER", "NEXT"}
	if s.Namespace == nil {
		heading = append([]string{"NAMESPACE"}, heading...)
	}
	if wide {
		heading = append(heading, "NODE", "WHERE", "TAKEN-BY", "PINNED")
	}
	rows := [][]string{heading}
	for _, l := range all {
		c := l.Checkpoint
		state, next := State(c), none
		if why := stalled(c); why != nil {
			state += " (" + why.Reason + ")"
		}
		if l.Next {
			next = "would be restored"
		} else if claim := c.Status.Claim; claim != nil {
			next = map[v1alpha1.ClaimPhase]string{v1alpha1.ClaimClaimed: "is being restored", v1alpha1.ClaimConsumed: "was restored"}[claim.Phase]
		}
		row := []string{l.Workload, c.Name, c.Spec.SourcePodName, state, sizeOf(c), frozenOf(c), age(s.Now, takenAt(c)), string(c.Spec.Trigger), next}
		if s.Namespace == nil {
			row = append([]string{c.Namespace}, row...)
		}
		if wide {
			row = append(row, nodeOf(c), whereOf(c), takenBy(c), pinned(c))
		}
		rows = append(rows, row)
	}
	return table(out, rows)
}

func sizeOf(c *v1alpha1.Checkpoint) string {
	if c.Status.SizeBytes == nil {
		return none
	}
	return v1alpha1.ReadableSize(*c.Status.SizeBytes).String()
}

// Bytes is a number of bytes for a person.
func Bytes(n int64) string {
	if n == 0 {
		return resource.NewQuantity(0, resource.BinarySI).String()
	}
	return v1alpha1.ReadableSize(n).String()
}

func frozenOf(c *v1alpha1.Checkpoint) string {
	if c.Status.Frozen == nil {
		return none
	}
	return c.Status.Frozen.Duration.String()
}

func nodeOf(c *v1alpha1.Checkpoint) string {
	if c.Status.Source == nil {
		return none
	}
	return c.Status.Source.Node
}

// whereOf is where its state is kept.
func whereOf(c *v1alpha1.Checkpoint) string {
	if c.Status.Volume != nil {
		return "volume " + c.Status.Volume.Source
	}
	return orNone(c.Status.LocationName)
}

func takenBy(c *v1alpha1.Checkpoint) string {
	if c.Status.Claim == nil {
		return none
	}
	return c.Status.Claim.PodName
}

func pinned(c *v1alpha1.Checkpoint) string {
	if c.Labels[keys.CheckpointPin] == keys.True {
		return "yes"
	}
	return "no"
}
