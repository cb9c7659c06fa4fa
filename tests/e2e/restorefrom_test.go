package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

const clones = "clones"

// clonesOf is a Deployment of two pods that are as those of a workload, and begin from a Checkpoint.
func (w *workload) clonesOf(checkpoint string) *appsv1.Deployment {
	template := *w.template.DeepCopy()
	template.Labels["app"], template.Annotations = clones, map[string]string{keys.RestoreFrom: checkpoint}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: clones}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": clones}}, Template: template,
	}}
}

// clonesRun waits until two clones run, and returns them.
func (w *workload) clonesRun(t *testing.T, but ...*corev1.Pod) (running []corev1.Pod) {
	t.Helper()
	lab.Eventually(t, 3*time.Minute, "two clones run", func() error {
		pods, err := w.c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + clones})
		if err != nil {
			return err
		}
		running = nil
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp.IsZero() && pod.Status.PodIP != "" && (len(but) == 0 || pod.UID != but[0].UID) {
				running = append(running, pod)
			}
		}
		if len(running) != 2 {
			return fmt.Errorf("%d do", len(running))
		}
		return nil
	})
	return running
}

// Two pods of another Deployment begin from what a pod left that has a successor of its own; each goes its own way, and its successor goes on that way.
func TestClonesBeginFromOneCheckpoint(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 10)
	put(t, c, pod, whose, "the first's")
	w.deletePod(t, pod)
	golden := w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	next := w.running(t, pod)
	w.goesOn(t, next, before, map[string]string{whose: "the first's"})

	if _, err := c.Client.AppsV1().Deployments(w.ns).Create(t.Context(), w.clonesOf(golden.Name), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	both := w.clonesRun(t)
	for i := range both {
		w.goesOn(t, &both[i], before, map[string]string{whose: "the first's"})
		put(t, c, &both[i], whose, both[i].Name)
		said := w.restored(t, &both[i])
		if !strings.Contains(said.Message, "Checkpoint "+golden.Name) || !strings.Contains(said.Message, "as its "+keys.RestoreFrom+" says") {
			t.Errorf("it says %q", said.Message)
		}
	}
	gone, stays := &both[0], &both[1]
	later := waitForCount(t, c, gone, before.Count+20)
	w.deletePod(t, gone)
	left := w.checkpoint(t, gone, "is captured", is(v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted))
	if left.Status.Source.RestoreFrom != golden.Name || left.Labels[keys.BeganFrom] != golden.Name {
		t.Errorf("its source is %+v, its labels %v", left.Status.Source, left.Labels)
	}
	both = w.clonesRun(t, gone)
	for i := range both {
		if both[i].UID == stays.UID {
			continue
		}
		w.goesOn(t, &both[i], later, map[string]string{whose: gone.Name})
	}
	claim := w.named(t, golden.Name, isComplete).Status.Claim
	if claim == nil || claim.PodUID != next.UID {
		t.Errorf("the claim is %+v, want that of pod %s", claim, next.Name)
	}
	w.mayNotBeCloned(t, golden.Name)
}

// mayNotBeCloned checks that it takes the verb restore to have pods begin from a Checkpoint.
func (w *workload) mayNotBeCloned(t *testing.T, checkpoint string) {
	t.Helper()
	rbac := w.c.Client.RbacV1()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "jane"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"create"}},
	}}
	if _, err := rbac.Roles(w.ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := rbac.RoleBindings(w.ns).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "jane"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "jane"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(w.c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "jane"}
	jane, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	try := func() error {
		hers := w.clonesOf(checkpoint)
		hers.Name = "hers"
		_, err := jane.AppsV1().Deployments(w.ns).Create(t.Context(), hers, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	refused := fmt.Sprintf("user %q may not restore checkpoints.checkpoint.memverge.ai %q in namespace %q", "jane", checkpoint, w.ns)
	lab.Eventually(t, 30*time.Second, "she may write Deployments, and not that one", func() error {
		if err := try(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), refused) {
			return fmt.Errorf("the answer is %w", err)
		}
		return nil
	})
	role.Rules = append(role.Rules, rbacv1.PolicyRule{
		APIGroups: []string{v1alpha1.SchemeGroupVersion.Group}, Resources: []string{"checkpoints"}, ResourceNames: []string{checkpoint},
		Verbs: []string{keys.VerbRestore},
	})
	if _, err := rbac.Roles(w.ns).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 30*time.Second, "she may", try)
}

// A pod that names a Checkpoint that there is not starts cold, and says so.
func TestAPodThatNamesNoCheckpointStartsCold(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{keys.RestoreFrom: "there-is-none"}
	})
	w.cold(t, pod, keys.ColdCheckpointNotFound)
}
