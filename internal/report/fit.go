package report

import (
	"encoding/json"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

// Fit says whether a pod in the place of another could go on from a Checkpoint, field by field.
type Fit struct {
	Fields []Field `json:"fields"`
	// Fits tells whether nothing is in the way, as far as it is known before the state is fetched, and Answer what would be done.
	Fits   bool   `json:"fits"`
	Answer Answer `json:"answer"`
}

// Field is something in which pod or node may differ from what was captured.
type Field struct {
	Name     string `json:"name"`
	Captured string `json:"captured"`
	Here     string `json:"here"`
	// Fits is nil where that is not compared.
	Fits *bool `json:"fits,omitempty"`
}

// FitOf compares a pod that would take the place of one with a Checkpoint, by a RestorePolicy that names it.
func FitOf(s *Snapshot, pod *corev1.Pod, c *v1alpha1.Checkpoint, policy *v1alpha1.RestorePolicy) Fit {
	own := lineage.Of(pod)
	next := successor(pod, s.Now)
	f := s.facts(next, own)
	f.Policy = policy
	var fit Fit
	add := func(name, captured, here string, fits bool) {
		fit.Fields = append(fit.Fields, Field{Name: name, Captured: orNone(captured), Here: orNone(here), Fits: &fits})
	}
	if source := c.Status.Source; source != nil {
		add("workload", s.workloadOf(c), s.workload(pod.Namespace, pod.Name, own.Owner), s.workloadOf(c) == s.workload(pod.Namespace, pod.Name, own.Owner))
		add("revision of the template", source.Lineage[:min(8, len(source.Lineage))], own.Lineage[:min(8, len(own.Lineage))],
			source.Lineage == own.Lineage || policy.Spec.TemplateChanges == v1alpha1.TemplateChangesRestore)
		add("place", source.Identity, own.Identity, source.Identity == own.Identity)
	}
	add("state", State(c), v1alpha1.StateCompleted, State(c) == v1alpha1.StateCompleted)
	add("taken by", takenBy(c), none, c.Status.Claim == nil)
	for _, captured := range c.Status.Containers {
		fit.Fields = append(fit.Fields, fieldsOfContainer(pod, captured)...)
	}
	fit.addNodes(s, c, policy)
	choice := matching.Choose(f)
	fit.Answer = s.choice(choice)
	fit.Fits = choice.Claim != nil || choice.Wait != ""
	return fit
}

// fieldsOfContainer compares a container by what the spec says. Whether the image is the same is seen on the node.
func fieldsOfContainer(pod *corev1.Pod, captured v1alpha1.CheckpointContainer) []Field {
	var container *corev1.Container
	for _, all := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range all {
			if all[i].Name == captured.Name {
				container = &all[i]
			}
		}
	}
	name := "container " + captured.Name
	if container == nil {
		return []Field{{Name: name, Captured: "captured", Here: "not there", Fits: new(false)}}
	}
	fields := []Field{{Name: name + ", image", Captured: orNone(captured.Image), Here: container.Image, Fits: new(container.Image == captured.Image)}}
	if captured.MemoryBytes == nil {
		return fields
	}
	limit, bounded := container.Resources.Limits[corev1.ResourceMemory]
	here := "no limit"
	if bounded {
		here = "limit " + limit.String()
	}
	fits := !bounded || limit.Value() >= *captured.MemoryBytes
	return append(fields, Field{Name: name + ", memory", Captured: Bytes(*captured.MemoryBytes), Here: here, Fits: &fits})
}

// addNodes compares the machines of the nodes.
func (fit *Fit) addNodes(s *Snapshot, c *v1alpha1.Checkpoint, policy *v1alpha1.RestorePolicy) {
	captured := matching.MachineOf(c)
	for i := range s.Nodes {
		node := &s.Nodes[i]
		var here compat.Facts
		name, text := "node "+node.Name, fmt.Sprintf("%s, kernel %s", captured.Architecture, captured.Kernel)
		if node.Labels[keys.NodeReady] != keys.True {
			fit.Fields = append(fit.Fields, Field{Name: name, Captured: text, Here: "not ready for checkpoints", Fits: new(false)})
			continue
		}
		if err := json.Unmarshal([]byte(node.Annotations[keys.NodeFacts]), &here); err != nil {
			fit.Fields = append(fit.Fields, Field{Name: name, Captured: text, Here: "not known"})
			continue
		}
		found := fmt.Sprintf("%s, kernel %s", here.Architecture, here.Kernel)
		err := matching.RulesOf(policy).Check(here, captured)
		if err != nil {
			found += ": " + err.Error()
		}
		fit.Fields = append(fit.Fields, Field{Name: name, Captured: text, Here: found, Fits: new(err == nil)})
	}
}

// Write prints it for a person.
func (fit Fit) Write(out io.Writer) error {
	rows := [][]string{{"", "FIELD", "CAPTURED", "HERE"}}
	for _, f := range fit.Fields {
		mark := " "
		if f.Fits != nil {
			mark = map[bool]string{true: "✓", false: "✗"}[*f.Fits]
		}
		rows = append(rows, []string{mark, f.Name, f.Captured, f.Here})
	}
	if err := table(out, rows); err != nil {
		return err
	}
	return fit.Answer.write(out, "A pod in its place")
}
