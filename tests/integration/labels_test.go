package integration

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// Bad values of our labels are refused where a user writes them, also while the manager is down: here it was never up.
func TestBadLabelsAreRefusedWhereTheyAreWritten(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	const mode = `label memverge.ai/checkpoint-mode is "yes"; it may be "true" or "false"`
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if makers["Pod"](t, ns, map[string]string{keys.CheckpointMode: "yes"}) == nil {
			return errors.New("a bad label was taken")
		}
		return nil
	})
	for kind, try := range makers {
		t.Run(kind, func(t *testing.T) {
			checkAnswer(t, try(t, ns, map[string]string{keys.CheckpointMode: "yes"}), mode)
			checkAnswer(t, try(t, ns, map[string]string{keys.CheckpointMode: "true", keys.CheckpointVolumeSize: "2Gi", keys.RestoreMode: "false"}), "")
			checkAnswer(t, try(t, ns, nil), "")
		})
	}
	for value, refused := range map[string]string{
		"2Gi": "", "1500M": "", "0.5Gi": "",
		"0":    `label memverge.ai/checkpoint-volume-size is "0"; it may be a quantity of bytes above 0`,
		"much": `label memverge.ai/checkpoint-volume-size is "much"`,
		"2GiB": `label memverge.ai/checkpoint-volume-size is "2GiB"`,
	} {
		t.Run("a size of "+value, func(t *testing.T) {
			checkAnswer(t, makers["Job"](t, ns, map[string]string{keys.CheckpointVolumeSize: value}), refused)
		})
	}
	checkAnswer(t, makers["Deployment"](t, ns, map[string]string{keys.RestoreMode: "no"}), `label memverge.ai/restore-mode is "no"; it may be "true" or "false"`)
}

// A bad value that comes with a change is refused as well.
func TestABadLabelIsRefusedInAChange(t *testing.T) {
	ns := namespace(t)
	deployments := shared.Client.AppsV1().Deployments(ns)
	made, err := deployments.Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(0)), Selector: selector, Template: template(nil)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch := []byte(`{"spec":{"template":{"metadata":{"labels":{"memverge.ai/restore-mode":"never"}}}}}`)
	_, err = deployments.Patch(t.Context(), made.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	checkAnswer(t, err, `label memverge.ai/restore-mode is "never"`)
}

// The same holds for annotations.
func TestABadAnnotationIsRefusedWhereItIsWritten(t *testing.T) {
	ns := namespace(t)
	try := func(value string) error {
		of := template(nil)
		of.Annotations = map[string]string{keys.IOUring: value}
		_, err := shared.Client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Selector: selector, Template: of}}, dryRun)
		return err
	}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if try("yes") == nil {
			return errors.New("a bad annotation was taken")
		}
		return nil
	})
	checkAnswer(t, try("yes"), `annotation memverge.ai/checkpoint-io-uring is "yes"; it may be "allow"`)
	checkAnswer(t, try(keys.IOUringAllow), "")
}

var selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}

func template(labels map[string]string) corev1.PodTemplateSpec {
	all := map[string]string{"app": "web"}
	for key, value := range labels {
		all[key] = value
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: all},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}, ServiceAccountName: "default"},
	}
}

func jobSpec(labels map[string]string) batchv1.JobSpec {
	spec := batchv1.JobSpec{Template: template(labels)}
	spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return spec
}

// makers try to make an object of a kind whose pods have these labels.
var makers = map[string]func(*testing.T, string, map[string]string) error{
	"Pod": func(t *testing.T, ns string, labels map[string]string) error {
		of := template(labels)
		of.Name, of.Spec.ServiceAccountName, of.Spec.AutomountServiceAccountToken = "web", "default", new(false)
		_, err := shared.Client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: of.ObjectMeta, Spec: of.Spec}, dryRun)
		return err
	},
	"Deployment": func(t *testing.T, ns string, labels map[string]string) error {
		_, err := shared.Client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template(labels)}}, dryRun)
		return err
	},
	"StatefulSet": func(t *testing.T, ns string, labels map[string]string) error {
		_, err := shared.Client.AppsV1().StatefulSets(ns).Create(t.Context(), &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template(labels)}}, dryRun)
		return err
	},
	"ReplicaSet": func(t *testing.T, ns string, labels map[string]string) error {
		_, err := shared.Client.AppsV1().ReplicaSets(ns).Create(t.Context(), &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template(labels)}}, dryRun)
		return err
	},
	"DaemonSet": func(t *testing.T, ns string, labels map[string]string) error {
		_, err := shared.Client.AppsV1().DaemonSets(ns).Create(t.Context(), &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template(labels)}}, dryRun)
		return err
	},
	"Job": func(t *testing.T, ns string, labels map[string]string) error {
		_, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: jobSpec(labels)}, dryRun)
		return err
	},
	"CronJob": func(t *testing.T, ns string, labels map[string]string) error {
		_, err := shared.Client.BatchV1().CronJobs(ns).Create(t.Context(), &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: jobSpec(labels)}},
		}, dryRun)
		return err
	},
}
