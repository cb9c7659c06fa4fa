package admission

import (
	"context"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestPodsOfANamespaceThatIsNotAllowedAreLeftAlone(t *testing.T) {
	onlyOther := func(_ context.Context, namespace string) bool { return namespace == "other" }
	request := func(namespace, raw string) admission.Request {
		return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Namespace: namespace, Object: runtime.RawExtension{Raw: []byte(raw)}}}
	}
	pods := Pods{Decoder: admission.NewDecoder(clientgoscheme.Scheme), Namespaces: namespaces(nil, nil), Allows: onlyOther}
	pod := func(mode string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"` + keys.CheckpointMode + `":"` + mode + `"},
			"annotations":{"` + keys.Effective + `":"forged"}},"spec":{"containers":[{"name":"app"}]}}`
	}
	answer := pods.Handle(t.Context(), request("default", pod("true")))
	if !answer.Allowed || len(answer.Warnings) != 1 || !strings.Contains(answer.Warnings[0], "namespace default is not among those") {
		t.Errorf("%+v", answer.AdmissionResponse)
	}
	if text := fmt.Sprint(answer.Patches); len(answer.Patches) != 1 || !strings.Contains(text, "remove /metadata/annotations") {
		t.Errorf("what it changes: %s", text)
	}
	if answer := pods.Handle(t.Context(), request("default", pod("maybe"))); answer.Allowed {
		t.Error("a label that means nothing was taken")
	}
	job := `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"},"spec":{"template":{"metadata":{"labels":{"` + keys.CheckpointMode + `":"true"}},
		"spec":{"restartPolicy":"Never","containers":[{"name":"app"}]}}}}`
	jobs := Jobs{Decoder: pods.Decoder, Namespaces: namespaces(nil, nil), Allows: onlyOther}
	for namespace, changes := range map[string]bool{"default": false, "other": true} {
		if answer := jobs.Handle(t.Context(), request(namespace, job)); !answer.Allowed || (len(answer.Patches) > 0) != changes {
			t.Errorf("of a Job in %s it changes %v", namespace, answer.Patches)
		}
	}
}
