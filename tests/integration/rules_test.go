package integration

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// writer is what the tests need of a generated client of a kind.
type writer[T any] interface {
	Create(context.Context, *T, metav1.CreateOptions) (*T, error)
	Update(context.Context, *T, metav1.UpdateOptions) (*T, error)
	UpdateStatus(context.Context, *T, metav1.UpdateOptions) (*T, error)
}

// creation is a new object that differs from a valid one. The API server takes it, or refuses it in these words.
type creation[T any] struct {
	with    func(*T)
	refused string
}

// update is a change of spec or status of an object that stands. The API server takes it, or refuses it in these words.
type update[T any] struct {
	of           func(*T) // what is different from a valid new object before the change, status included
	spec, status func(*T) // the change; one of them is set
	refused      string
}

func testCreations[T any](t *testing.T, to writer[T], valid func() *T, cases map[string]creation[T]) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			object := valid()
			tc.with(object)
			_, err := to.Create(t.Context(), object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: "Strict"})
			checkAnswer(t, err, tc.refused)
		})
	}
}

func testUpdates[T any](t *testing.T, to writer[T], valid func() *T, cases map[string]update[T]) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			object := create(t, to, valid, tc.of)
			options := metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: "Strict"}
			var err error
			if tc.spec != nil {
				tc.spec(object)
				_, err = to.Update(t.Context(), object, options)
			} else {
				tc.status(object)
				_, err = to.UpdateStatus(t.Context(), object, options)
			}
			checkAnswer(t, err, tc.refused)
		})
	}
}

// create makes an object and, by a second request, its status.
func create[T any](t *testing.T, to writer[T], valid func() *T, with func(*T)) *T {
	t.Helper()
	object := valid()
	if with != nil {
		with(object)
	}
	object, err := to.Create(t.Context(), object, metav1.CreateOptions{FieldValidation: "Strict"})
	if err != nil {
		t.Fatal(err)
	}
	if with == nil {
		return object
	}
	with(object)
	if object, err = to.UpdateStatus(t.Context(), object, metav1.UpdateOptions{FieldValidation: "Strict"}); err != nil {
		t.Fatal(err)
	}
	return object
}

func checkAnswer(t *testing.T, err error, refused string) {
	t.Helper()
	switch {
	case refused == "" && err != nil:
		t.Errorf("it was refused: %v", err)
	case refused != "" && err == nil:
		t.Errorf("it was taken; wanted: %s", refused)
	case refused != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), refused)):
		t.Errorf("it was refused as %q; wanted: %s", err, refused)
	}
}

// TestEveryRuleIsBrokenByACase keeps the tables complete: whoever writes a CEL rule finds here that no case shows it at work.
func TestEveryRuleIsBrokenByACase(t *testing.T) {
	needCluster(t)
	tested := slices.Concat(
		refusals(newCheckpoints, changedCheckpoints), refusals(newCheckpointPolicies, changedCheckpointPolicies),
		refusals(newRestorePolicies, changedRestorePolicies), refusals(newLocations, changedLocations))
	definitions := dynamic.NewForConfigOrDie(shared.Config).Resource(
		schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	list, err := definitions.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, definition := range list.Items {
		for _, message := range ruleMessages(definition.Object) {
			found++
			if !slices.Contains(tested, message) {
				t.Errorf("no case of the tables breaks the rule %q of %s", message, definition.GetName())
			}
		}
	}
	if found == 0 {
		t.Error("the API server knows no rule")
	}
}

func refusals[T any](creations map[string]creation[T], updates map[string]update[T]) (all []string) {
	for tc := range maps.Values(creations) {
		all = append(all, tc.refused)
	}
	for tc := range maps.Values(updates) {
		all = append(all, tc.refused)
	}
	return all
}

// ruleMessages returns the messages of all CEL rules below a node of a schema.
func ruleMessages(node any) (all []string) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			all = append(all, ruleMessages(child)...)
		}
	case map[string]any:
		for key, child := range node {
			all = append(all, ruleMessages(child)...)
			if key != "x-kubernetes-validations" {
				continue
			}
			for _, rule := range child.([]any) {
				all = append(all, rule.(map[string]any)["message"].(string))
			}
		}
	}
	return all
}
