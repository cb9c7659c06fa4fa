package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func ask(t *testing.T, raw string) admission.Response {
	t.Helper()
	return askOf(t, raw, nil)
}

// namespaces has the Namespace default, which says this; a cache may have heard of something else.
func namespaces(cached, live map[string]string) Namespaces {
	of := func(labels map[string]string) client.Reader {
		return fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).
			WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: labels}}).Build()
	}
	return Namespaces{Cached: of(cached), Live: of(live), Operator: "checkpoint-system"}
}

// askOf asks in a namespace with these CheckpointPolicies, or where nobody knows them.
func askOf(t *testing.T, raw string, unreadable error, policies ...client.Object) admission.Response {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(policies...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if unreadable != nil {
				return unreadable
			}
			return c.List(ctx, list, options...)
		},
	}).Build()
	pods := Pods{Decoder: admission.NewDecoder(clientgoscheme.Scheme), Policies: reader, Namespaces: namespaces(nil, nil)}
	return pods.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: "default", Object: runtime.RawExtension{Raw: []byte(raw)},
	}})
}

func TestThePolicyOfTheNamespaceSelectsContainers(t *testing.T) {
	raw := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"` + keys.CheckpointMode + `":"true"}},
		"spec":{"containers":[{"name":"app"},{"name":"log"}]}}`
	policy := func(namespace string) *v1alpha1.CheckpointPolicy {
		return &v1alpha1.CheckpointPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"},
			Spec:       v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{}, Containers: &v1alpha1.ContainerSelection{Exclude: []string{"log"}}},
		}
	}
	for name, test := range map[string]struct {
		unreadable error
		policy     *v1alpha1.CheckpointPolicy
		want       string
		warnings   int
	}{
		"its own":                            {policy: policy("default"), want: `"containers":["app"]`},
		"that of another namespace":          {policy: policy("other"), want: `"containers":["app","log"]`},
		"it cannot be read, the pod is made": {policy: policy("default"), unreadable: errors.New("no cache"), want: `"containers":["app","log"]`, warnings: 1},
	} {
		t.Run(name, func(t *testing.T) {
			answer := askOf(t, raw, test.unreadable, test.policy)
			if text := fmt.Sprint(answer.Patches); !answer.Allowed || !strings.Contains(text, test.want) || len(answer.Warnings) != test.warnings {
				t.Errorf("allowed: %t, warnings: %v, patches: %s", answer.Allowed, answer.Warnings, text)
			}
		})
	}
}

func TestFieldsThatWeDoNotKnowAreLeftAlone(t *testing.T) {
	answer := ask(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"`+keys.CheckpointMode+`":"true"}},
		"spec":{"fieldOfTheFuture":1,"terminationGracePeriodSeconds":30,"containers":[{"name":"a"}]}}`)
	if !answer.Allowed {
		t.Fatal(answer.Result)
	}
	paths := map[string]bool{}
	for _, patch := range answer.Patches {
		paths[patch.Operation+" "+patch.Path] = true
	}
	for _, want := range []string{"add /metadata/annotations", "add /spec/runtimeClassName", "replace /spec/terminationGracePeriodSeconds"} {
		if !paths[want] {
			t.Errorf("%s is missing in %v", want, paths)
		}
	}
	if len(paths) != 3 {
		t.Errorf("there is more in it: %v", paths)
	}
}

func TestARefusalIsForTheUser(t *testing.T) {
	raw, err := json.Marshal(labelled(func(p *corev1.Pod) { p.Labels[keys.CheckpointMode] = "on" }))
	if err != nil {
		t.Fatal(err)
	}
	answer := ask(t, string(raw))
	if answer.Allowed || !strings.Contains(answer.Result.Message, keys.CheckpointMode) {
		t.Errorf("%v", answer)
	}
	if answer := ask(t, "no pod"); answer.Allowed || answer.Result.Code != 400 {
		t.Errorf("%v", answer)
	}
}

func TestAPostStartHookIsWarnedAbout(t *testing.T) {
	hook := &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"register"}}}}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   []string
	}{
		"of a captured container": {change: func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = hook }, want: []string{`container "app" has a postStart hook`}},
		"of a proxy": {change: func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy", Lifecycle: hook})
		}},
		"of a pod without the label": {change: func(p *corev1.Pod) {
			p.Labels, p.Spec.Containers[0].Lifecycle = nil, hook
		}},
		"of a pod that cannot be captured": {change: func(p *corev1.Pod) { p.Spec.HostNetwork, p.Spec.Containers[0].Lifecycle = true, hook }},
		"none":                             {},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(labelled(test.change))
			if err != nil {
				t.Fatal(err)
			}
			answer := ask(t, string(raw))
			if !answer.Allowed || len(answer.Warnings) != len(test.want) {
				t.Fatalf("%+v", answer.AdmissionResponse)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(answer.Warnings[i], want) {
					t.Errorf("it warns %q", answer.Warnings[i])
				}
			}
		})
	}
}
