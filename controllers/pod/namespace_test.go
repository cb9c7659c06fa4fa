package pod

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/operatorconfig"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

func TestAPodOfANamespaceThatIsNotAllowedSaysSo(t *testing.T) {
	pod := jobPod(func(p *corev1.Pod) { p.Annotations, p.Spec.RuntimeClassName = nil, nil }) // as admission leaves it
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: operator.ConfigMap}, Data: map[string]string{operator.NamespaceSelector: "team=blue"},
	}
	home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	r, _ := newReconciler(t, pod, configMap, home)
	r.Config = &operatorconfig.Source{Reader: r.Client, Namespace: "system"}
	check := func(reason string, policies int) {
		t.Helper()
		reconcile(t, r, pod)
		now, spawned := &corev1.Pod{}, &v1alpha1.RestorePolicyList{}
		if err := r.Get(t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
			t.Fatal(err)
		}
		if err := r.List(t.Context(), spawned); err != nil {
			t.Fatal(err)
		}
		if c := podspec.Condition(now, keys.Checkpointable); c == nil || c.Reason != reason || len(spawned.Items) != policies {
			t.Errorf("it says %+v, and there are %d RestorePolicies", c, len(spawned.Items))
		}
	}
	check(keys.UnprotectedNamespace, 0)
	home.Labels = map[string]string{"team": "blue"}
	if err := r.Update(t.Context(), home); err != nil {
		t.Fatal(err)
	}
	check(keys.UnprotectedNotAdmitted, 1) // a new one will be protected
}
