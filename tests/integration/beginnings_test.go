package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/admission"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// askAboutBeginnings answers the API server's questions about those who write restore-from in a namespace, as manifests/webhook has it.
func askAboutBeginnings(t *testing.T, ns string) *atomic.Int64 {
	t.Helper()
	r := reader(t)
	asked, at := serve(t, admission.BeginningsPath, admission.Beginnings{Reviews: r, Checkpoints: r, Namespaces: namespaces(t)})
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "manifests/webhook/restore-from.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	configuration := &admissionv1.ValidatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(text, configuration); err != nil {
		t.Fatal(err)
	}
	configuration.Name = ns
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].ClientConfig, configuration.Webhooks[i].NamespaceSelector = at, only(ns, nil)
	}
	webhooks := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := webhooks.Create(t.Context(), configuration, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := webhooks.Delete(context.Background(), ns, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return asked
}

// as is a client that is a user whom a Role of the namespace allows no more than the rules.
func as(t *testing.T, ns, user string, rules ...rbacv1.PolicyRule) kubernetes.Interface {
	t.Helper()
	allow(t, ns, user, user, rules...)
	config := rest.CopyConfig(shared.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	made, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func allow(t *testing.T, ns, role, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	rbac := shared.Client.RbacV1()
	_, roleErr := rbac.Roles(ns).Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: rules}, metav1.CreateOptions{})
	_, bindingErr := rbac.RoleBindings(ns).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	if err := errors.Join(roleErr, bindingErr); err != nil {
		t.Fatal(err)
	}
}

// everything but what our own group has.
var everything = rbacv1.PolicyRule{APIGroups: []string{"", "apps", "batch"}, Resources: []string{"*"}, Verbs: []string{"*"}}

// mayRestore is the rule that our refusal names.
func mayRestore(name string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{"checkpoint.memverge.ai"}, Resources: []string{"checkpoints"}, ResourceNames: []string{name}, Verbs: []string{keys.VerbRestore},
	}
}

// naming is a template whose pods begin from a Checkpoint.
func naming(checkpoint string) corev1.PodTemplateSpec {
	of := template(map[string]string{keys.CheckpointMode: keys.True})
	of.Annotations = map[string]string{keys.RestoreFrom: checkpoint}
	return of
}

func notAllowed(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `user "jane" may not restore checkpoints.checkpoint.memverge.ai "golden"`) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestWhoHasPodsBeginFromACheckpointMustBeAllowedTo(t *testing.T) {
	ns := namespace(t)
	askAboutBeginnings(t, ns)
	awaitServiceAccount(t, ns)
	jane := as(t, ns, "jane", everything)
	deploy := func(template corev1.PodTemplateSpec) error {
		_, err := jane.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}, dryRun)
		return err
	}
	lab.Eventually(t, 30*time.Second, "the webhook is asked", func() error {
		if err := deploy(naming("golden")); err == nil || !strings.Contains(err.Error(), "may not restore") {
			return fmt.Errorf("it is not refused: %w", err)
		}
		return nil
	})
	for kind, try := range janes(t, ns, jane) {
		notAllowed(t, kind, try("golden"))
	}
	checkAnswer(t, deploy(template(nil)), "")
	allow(t, ns, "restores-golden", "jane", mayRestore("golden"))
	lab.Eventually(t, 30*time.Second, "she may", func() error { return deploy(naming("golden")) })
	for kind, try := range janes(t, ns, jane) {
		if err := try("golden"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := try("other"); !apierrors.IsForbidden(err) {
			t.Errorf("%s from a Checkpoint that she may not restore: %v", kind, err)
		}
	}
}

// janes try to make an object of a kind whose pods begin from a Checkpoint.
func janes(t *testing.T, ns string, jane kubernetes.Interface) map[string]func(checkpoint string) error {
	t.Helper()
	object := metav1.ObjectMeta{Name: "web"}
	job := func(checkpoint string) batchv1.JobSpec {
		of := naming(checkpoint)
		of.Spec.RestartPolicy = corev1.RestartPolicyNever
		return batchv1.JobSpec{Template: of}
	}
	return map[string]func(string) error{
		"Pod": func(checkpoint string) error {
			pod := builder.MakePod(ns, "web").Obj()
			pod.Annotations, pod.Spec.AutomountServiceAccountToken = map[string]string{keys.RestoreFrom: checkpoint}, new(false)
			_, err := jane.CoreV1().Pods(ns).Create(t.Context(), pod, dryRun)
			return err
		},
		"StatefulSet": func(checkpoint string) error {
			_, err := jane.AppsV1().StatefulSets(ns).Create(t.Context(), &appsv1.StatefulSet{
				ObjectMeta: object, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: naming(checkpoint)}}, dryRun)
			return err
		},
		"DaemonSet": func(checkpoint string) error {
			_, err := jane.AppsV1().DaemonSets(ns).Create(t.Context(), &appsv1.DaemonSet{
				ObjectMeta: object, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: naming(checkpoint)}}, dryRun)
			return err
		},
		"ReplicaSet": func(checkpoint string) error {
			_, err := jane.AppsV1().ReplicaSets(ns).Create(t.Context(), &appsv1.ReplicaSet{
				ObjectMeta: object, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: naming(checkpoint)}}, dryRun)
			return err
		},
		"ReplicationController": func(checkpoint string) error {
			of := naming(checkpoint)
			_, err := jane.CoreV1().ReplicationControllers(ns).Create(t.Context(), &corev1.ReplicationController{
				ObjectMeta: object, Spec: corev1.ReplicationControllerSpec{Selector: selector.MatchLabels, Template: &of}}, dryRun)
			return err
		},
		"Job": func(checkpoint string) error {
			_, err := jane.BatchV1().Jobs(ns).Create(t.Context(), &batchv1.Job{ObjectMeta: object, Spec: job(checkpoint)}, dryRun)
			return err
		},
		"CronJob": func(checkpoint string) error {
			_, err := jane.BatchV1().CronJobs(ns).Create(t.Context(), &batchv1.CronJob{ObjectMeta: object, Spec: batchv1.CronJobSpec{
				Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: job(checkpoint)},
			}}, dryRun)
			return err
		},
	}
}

// What Kubernetes' controllers make of a template, and what they write of it later, nobody is asked about; what others change of it later is.
func TestOnlyWhoWritesABeginningIsAskedAbout(t *testing.T) {
	ns := namespace(t)
	asked := askAboutBeginnings(t, ns)
	awaitServiceAccount(t, ns)
	jane := as(t, ns, "jane", everything)
	made := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Selector: selector, Template: naming("golden")}}
	lab.Eventually(t, 30*time.Second, "the webhook is asked", func() error {
		_, err := shared.Client.AppsV1().Deployments(ns).Create(t.Context(), made, dryRun)
		if err == nil && asked.Load() == 0 {
			err = errors.New("it is not")
		}
		return err
	})
	before := asked.Load()
	if _, err := shared.Client.AppsV1().Deployments(ns).Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var pod *corev1.Pod
	lab.Eventually(t, 30*time.Second, "the Deployment has a pod", func() error {
		pods, err := shared.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(pods.Items) != 1 {
			return fmt.Errorf("%d pods, %w", len(pods.Items), err)
		}
		pod = &pods.Items[0]
		return nil
	})
	if pod.Annotations[keys.RestoreFrom] != "golden" {
		t.Errorf("its annotations are %v", pod.Annotations)
	}
	patch := []byte(`{"spec":{"replicas":0},"metadata":{"labels":{"a":"b"}}}`)
	if _, err := jane.AppsV1().Deployments(ns).Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Errorf("who scales it: %v", err)
	}
	if got := asked.Load() - before; got != 1 {
		t.Errorf("it was asked about %d times, want once", got)
	}
	for what, change := range map[string]func() error{
		"of a pod that is there": func() error {
			_, err := jane.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.MergePatchType, patchBeginning("golden-2"), dryPatch)
			return err
		},
		"by its status": func() error {
			_, err := jane.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.MergePatchType, patchBeginning("golden-2"), dryPatch, "status")
			return err
		},
		"by binding it": func() error {
			binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
			binding.Annotations = map[string]string{keys.RestoreFrom: "golden-2"}
			return jane.CoreV1().Pods(ns).Bind(t.Context(), binding, dryRun)
		},
		"by another template": func() error {
			text := fmt.Appendf(nil, `{"spec":{"template":%s}}`, patchBeginning("golden-2"))
			_, err := jane.AppsV1().Deployments(ns).Patch(t.Context(), "web", types.MergePatchType, text, dryPatch)
			return err
		},
	} {
		if err := change(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `"golden-2"`) {
			t.Errorf("a change %s: %v", what, err)
		}
	}
	none := []byte(`{"metadata":{"annotations":{"memverge.ai/restore-from":null}}}`)
	if _, err := jane.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.MergePatchType, none, dryPatch); err != nil {
		t.Errorf("who takes it away: %v", err)
	}
}

var dryPatch = metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}

func patchBeginning(checkpoint string) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, keys.RestoreFrom, checkpoint)
}

// Without the webhook values that mean nothing are refused all the same, and those of Namespaces.
func TestABeginningThatMeansNothing(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	const may = `; it may be the name of a Checkpoint of the pod's namespace: lower case letters, digits, hyphens and dots, 63 at most`
	for kind, try := range makers {
		checkAnswer(t, try(t, ns, map[string]string{keys.RestoreFrom: "web-1.a"}), "")
		checkAnswer(t, try(t, ns, map[string]string{keys.RestoreFrom: "Web_1"}), `label memverge.ai/restore-from is "Web_1"`+may)
		if t.Failed() {
			t.Fatal(kind)
		}
	}
	checkAnswer(t, makers["Job"](t, ns, map[string]string{keys.RestoreFrom: ""}),
		`label memverge.ai/restore-from is ""; it may be the name of a Checkpoint; to have pods start cold, write memverge.ai/restore-mode: "false" instead`)
	checkAnswer(t, say(t, ns, nil, map[string]string{keys.RestoreFrom: "web"}),
		`annotation memverge.ai/restore-from is "web"; it may not be there: it belongs on a pod, or on the template of pods`)
}
