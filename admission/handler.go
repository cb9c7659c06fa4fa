package admission

import (
	"context"
	"encoding/json"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Path is where the API server reaches Pods.
const Path = "/mutate-pods"

// Pods answers the API server's question about a pod that is being made.
type Pods struct{ Decoder admission.Decoder }

// Handle calls Admit.
func (p Pods) Handle(ctx context.Context, request admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := p.Decoder.Decode(request, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	// The patch is made from the pod as we know it: fields of a newer API that were lost in decoding are not in it.
	before, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	if err := Admit(pod); err != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("refused a pod", "namespace", request.Namespace, "name", request.Name, "reason", err.Error())
		return admission.Denied(err.Error())
	}
	after, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(before, after)
}
