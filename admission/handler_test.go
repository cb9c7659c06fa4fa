package admission

import (
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

func ask(t *testing.T, raw string) admission.Response {
	t.Helper()
	pods := Pods{Decoder: admission.NewDecoder(clientgoscheme.Scheme)}
	return pods.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Object: runtime.RawExtension{Raw: []byte(raw)}}})
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
