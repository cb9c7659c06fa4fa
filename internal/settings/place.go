package settings

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Namespace is what a pod's Namespace says for all of its pods. The zero value says nothing.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}

// Of returns what a Namespace says. Whatever it is, it does not count for the pods of the cluster itself, nor for those of the operator, which would have
// to wait for itself: those are in kube-system, and in the Namespace of that name.
func Of(namespace *corev1.Namespace, operator string) Namespace {
	if namespace == nil || namespace.Name == metav1.NamespaceSystem || namespace.Name == operator {
		return Namespace{}
	}
	return Namespace{Name: namespace.Name, Labels: namespace.Labels, Annotations: namespace.Annotations}
}

// Asks tells whether the pods of a Namespace that say nothing themselves are captured and restored.
func (n Namespace) Asks() bool {
	asks := reader{places: n.places()}
	return resolve(&asks, keys.CheckpointMode, boolean)
}

// places are those at which a Namespace's keys stand, what counts most first.
func (n Namespace) places() []place {
	of := " of Namespace " + n.Name
	return []place{
		{values: n.Annotations, kind: "annotation", of: of, forAll: true},
		{values: n.Labels, kind: "label", of: of, forAll: true},
	}
}

// placesOf are those at which the keys of a pod stand.
func placesOf(pod *corev1.Pod, namespace Namespace) []place {
	own := []place{{values: pod.Annotations, kind: "annotation"}, {values: pod.Labels, kind: "label"}}
	return append(own, namespace.places()...)
}

// place is where keys stand.
type place struct {
	values   map[string]string
	kind, of string
	// forAll is true at a Namespace, whose mistakes keep no pod from being made.
	forAll bool
}

// written is the value of a key at a place.
type written struct {
	text  string
	where string // as in: annotation memverge.ai/checkpoint-volume-size of Namespace default
	place place
}

func (p place) read(key string) (w written, found bool) {
	text, found := p.values[key]
	return written{text: text, where: p.kind + " " + key + p.of, place: p}, found
}

// wrong says of a value what it may be.
func (w written) wrong(may string) error {
	return fmt.Errorf("%s is %q; it may be %s", w.where, w.text, may)
}

// list are the items of a value. In a label, which can hold no comma, they are separated by dots or underscores.
func (w written) list() []string {
	separators := ","
	if w.place.kind == "label" {
		separators = "._"
	}
	items := strings.FieldsFunc(w.text, func(r rune) bool { return strings.ContainsRune(separators, r) })
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return slices.DeleteFunc(items, func(item string) bool { return item == "" })
}

// commas is a value as a list that is separated by commas.
func (w written) commas() string { return strings.Join(w.list(), ",") }

// reader reads keys where they may stand, and remembers what is to be said of that.
type reader struct {
	places   []place
	from     map[string]string
	warnings []string
	err      error
}

// resolve returns what a key comes to: the value at the first place that has one that means something. What means nothing is an error at a pod, also where
// another place goes before it, and a warning at its Namespace.
func resolve[T any](r *reader, key string, parse func(written) (T, error)) (value T) {
	found := false
	for _, p := range r.places {
		w, is := p.read(key)
		if !is || found && p.forAll {
			continue
		}
		parsed, err := parse(w)
		switch {
		case err != nil && p.forAll:
			r.warnings = append(r.warnings, err.Error()+"; it does not count")
		case err != nil && r.err == nil:
			r.err = err
		case err == nil && !found:
			value, found = parsed, true
			r.note(key, w.where)
		}
	}
	return value
}

// note remembers where a value came from.
func (r *reader) note(key, where string) {
	if r.from == nil {
		r.from = map[string]string{}
	}
	r.from[key] = where
}
