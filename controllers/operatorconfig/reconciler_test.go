package operatorconfig

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/internal/operator"
)

func TestWhatChangesIsSaidAloudOnce(t *testing.T) {
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: operator.ConfigMap}}
	kept := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(configMap).Build()
	recorder := events.NewFakeRecorder(10)
	r := &Reconciler{Source: &Source{Reader: kept, Namespace: "system"}, Client: kept, Recorder: recorder}
	for _, step := range []struct {
		data   map[string]string
		events []string
		paused bool
	}{
		{},
		{map[string]string{operator.Paused: "true"}, []string{"Warning Paused the whole operator is paused"}, true},
		{map[string]string{operator.Paused: "ture"}, []string{`Warning InvalidConfiguration paused of ConfigMap checkpoint-operator is "ture"`}, true},
		{map[string]string{operator.Paused: "false"}, []string{"Normal Resumed pods are captured and restored again"}, false},
	} {
		configMap.Data = step.data
		if err := kept.Update(t.Context(), configMap); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(configMap)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range step.events {
			if got := <-recorder.Events; !strings.HasPrefix(got, want) {
				t.Errorf("with %v it tells %q", step.data, got)
			}
		}
		if len(recorder.Events) > 0 || (r.Source.Config(t.Context()).Paused != "") != step.paused {
			t.Errorf("with %v there are %d more events; what holds is %+v", step.data, len(recorder.Events), r.Source.Config(t.Context()))
		}
	}
}
