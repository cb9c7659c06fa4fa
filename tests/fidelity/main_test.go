package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// TestOnACluster runs what needs one: the programs of which `make test` wants to know, each through all steps, and what is no program.
func TestOnACluster(t *testing.T) {
	if reason := lab.Unable(); reason != "" {
		t.Skip(reason)
	}
	var quick []Program
	for _, p := range programs() {
		if p.Quick {
			quick = append(quick, p)
		}
	}
	cluster, err := lab.Up(t.Context(), lab.NameOr("fidelity-test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	operator, err := install.Install(t.Context(), cluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := load(t.Context(), cluster, quick); err != nil {
		t.Fatal(err)
	}
	r, err := newRunner(operator, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("Together", func(t *testing.T) { // their waits at the same time
		for name, test := range map[string]func(*testing.T){
			"QuickProgramsSurvive":                     func(t *testing.T) { quickProgramsSurvive(t, r, quick) },
			"APodThatGoesWhileItIsHeldLosesNothing":    func(t *testing.T) { aHeldPodLosesNothing(t, r) },
			"ContainersThatWaitInVainGoOnAndItIsShown": func(t *testing.T) { aHoldIsBounded(t, r) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
}

func quickProgramsSurvive(t *testing.T, r *runner, quick []Program) {
	for _, row := range r.runAll(t.Context(), quick, 2) {
		if !row.Good() {
			t.Errorf("%s, %s: %s", row.Program, row.Step, row.Outcome)
		}
	}
}

// halfRestored returns a second pod of two players of which one is restored, and held, and the other is not there yet: kubelet waits for the
// hook of a third container between them.
func halfRestored(t *testing.T, r *runner, name string, pause time.Duration) (Program, *Pod) {
	t.Helper()
	ctx := t.Context()
	p := pair(name, "", func(spec *corev1.PodSpec) {
		between := corev1.Container{Name: "istio-proxy", Image: spec.Containers[0].Image, ImagePullPolicy: corev1.PullNever, Args: []string{"pause", "1h"}}
		hook := &corev1.ExecAction{Command: []string{"/pair", "pause", pause.String()}}
		between.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: hook}}
		spec.Containers = []corev1.Container{spec.Containers[0], between, spec.Containers[1]}
	})
	ns := "fidelity-" + p.Name
	t.Cleanup(func() { r.remove(context.Background(), ns) })
	first, err := r.begin(ctx, ns, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.end(ctx, first); err != nil {
		t.Fatal(err)
	}
	second, err := r.make(ctx, ns, p, steps()[0].node)
	if err != nil {
		t.Fatal(err)
	}
	err = until(ctx, time.Minute, func() error {
		_, err := lab.Localcluster(ctx, r.operator.Cluster.Name, "node", "exec", steps()[0].node, "--",
			"sh", "-c", fmt.Sprintf("grep -q restored /var/lib/checkpoint/restores/%s/result-left.json", second.UID))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, second
}

// aHeldPodLosesNothing deletes a pod of which one container is restored and held.
func aHeldPodLosesNothing(t *testing.T, r *runner) {
	ctx := t.Context()
	p, second := halfRestored(t, r, "held", 10*time.Second)
	if body, err := second.Get(ctx, 8080, "/check"); err == nil {
		t.Errorf("the held container answers %q", body)
	}
	if err := r.end(ctx, second); err != nil {
		t.Fatal(err)
	}
	row := &Row{}
	if err := r.captured(ctx, second, row); err != nil {
		t.Fatal(err)
	}
	third, err := r.start(ctx, second.Namespace, p, steps()[1].node)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.restored(ctx, third, row), until(ctx, checkPatience, func() error { return p.Check(ctx, third) })); err != nil {
		t.Error(err)
	}
}

// aHoldIsBounded has the second container come too late. What they share has moved on by then, so that it starts cold.
func aHoldIsBounded(t *testing.T, r *runner) {
	_, second := halfRestored(t, r, "late", 80*time.Second)
	for _, want := range []struct{ reason, message string }{
		{keys.ColdIncomplete, "went on without them"}, {keys.ColdRestoreFailed, "System V objects have moved on"},
	} {
		err := until(t.Context(), 2*time.Minute, func() error {
			now, err := r.operator.Cluster.Client.CoreV1().Pods(second.Namespace).Get(t.Context(), second.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range now.Status.Conditions {
				if c.Type == keys.Restored && c.Status == corev1.ConditionFalse && c.Reason == want.reason && strings.Contains(c.Message, want.message) {
					return nil
				}
			}
			return fmt.Errorf("its conditions are %+v", now.Status.Conditions)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range programs() {
		if seen[p.Name] {
			t.Errorf("two programs are called %s", p.Name)
		}
		seen[p.Name] = true
	}
}
