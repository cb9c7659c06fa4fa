package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

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
	t.Run("QuickProgramsSurvive", func(t *testing.T) { quickProgramsSurvive(t, r, quick) })
	t.Run("APodThatGoesWhileItIsHeldLosesNothing", func(t *testing.T) { aHeldPodLosesNothing(t, r) })
}

func quickProgramsSurvive(t *testing.T, r *runner, quick []Program) {
	for _, row := range r.runAll(t.Context(), quick, 2) {
		if !row.Good() {
			t.Errorf("%s, %s: %s", row.Program, row.Step, row.Outcome)
		}
	}
}

// aHeldPodLosesNothing deletes a pod when one of its two containers is restored, and held, and the other is not there yet: kubelet waits for the
// hook of a third one between them.
func aHeldPodLosesNothing(t *testing.T, r *runner) {
	ctx := t.Context()
	p := pair("held", "", func(spec *corev1.PodSpec) {
		between := corev1.Container{Name: "istio-proxy", Image: spec.Containers[0].Image, ImagePullPolicy: corev1.PullNever, Args: []string{"wait"}}
		between.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/pair", "pause"}}}}
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
	third, err := r.start(ctx, ns, p, steps()[1].node)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.restored(ctx, third, row), until(ctx, checkPatience, func() error { return p.Check(ctx, third) })); err != nil {
		t.Error(err)
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
