package admission

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Path is where the API server reaches Pods.
const Path = "/mutate-pods"

// Pods answers the API server's question about a pod that is being made.
type Pods struct {
	Decoder admission.Decoder
	// Placement says which nodes a pod prefers; nil for no preference.
	Placement *Placement
}

// placementPatience bounds what the preference may take; the pod is made without it then.
const placementPatience = time.Second

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
	if p.Placement != nil && podspec.IsProtected(pod) {
		p.place(ctx, request.Namespace, pod)
	}
	after, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(before, after)
}

// place adds the preference for nodes. Without it the pod is made all the same.
func (p Pods) place(ctx context.Context, namespace string, pod *corev1.Pod) {
	limited, cancel := context.WithTimeout(ctx, placementPatience)
	defer cancel()
	named := pod.DeepCopy()
	named.Namespace = namespace // the object itself may not say
	if err := p.Placement.Prefer(limited, named); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "find the nodes on which the pod can be restored", "namespace", namespace, "name", pod.Name)
		return
	}
	pod.Spec.Affinity = named.Spec.Affinity
}
