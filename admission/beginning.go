package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// BeginningsPath is where the API server reaches Beginnings.
const BeginningsPath = "/validate-restore-from"

// Beginnings answers whether somebody may write a pod, or a template of pods, that begins from a Checkpoint: he must be allowed the verb restore on it. For
// with it he gets all that the captured program had in memory.
type Beginnings struct {
	// Reviews makes SubjectAccessReviews.
	Reviews client.Writer
	// Checkpoints reads Checkpoints, from a cache: somebody waits for the answer.
	Checkpoints client.Reader
	Namespaces  Namespaces
}

// Handle refuses a new or changed restore-from whose value is none, or whose writer may not restore that Checkpoint.
func (b Beginnings) Handle(ctx context.Context, request admission.Request) admission.Response {
	pod, err := podIn(request.Kind.Kind, request.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if len(request.OldObject.Raw) > 0 {
		old, err := podIn(request.Kind.Kind, request.OldObject.Raw)
		if err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if podspec.RestoreFrom(old) == podspec.RestoreFrom(pod) {
			return admission.Allowed("")
		}
	}
	if wasCheckedBefore(request.Resource.Resource, request.UserInfo.Username) {
		return admission.Allowed("")
	}
	name, err := settings.RestoreFrom(pod.Labels, pod.Annotations)
	switch {
	case err != nil:
		return admission.Denied(err.Error())
	case name == "":
		return admission.Allowed("")
	}
	review := reviewOf(request.AdmissionRequest, name)
	if err := b.Reviews.Create(ctx, review); err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("ask whether user %q may %s Checkpoint %s: %w",
			request.UserInfo.Username, keys.VerbRestore, name, err))
	}
	if !review.Status.Allowed {
		ctrl.LoggerFrom(ctx).Info("refused", "kind", request.Kind.Kind, "namespace", request.Namespace, "name", request.Name,
			"user", request.UserInfo.Username, "checkpoint", name)
		return admission.Denied(refusal(review))
	}
	return admission.Allowed("").WithWarnings(b.warnings(ctx, request.AdmissionRequest, pod, name)...)
}

// warnings are what whoever may write it should know.
func (b Beginnings) warnings(ctx context.Context, request admissionv1.AdmissionRequest, pod *corev1.Pod, name string) (all []string) {
	asked, _, err := b.Namespaces.resolve(ctx, pod, request.Namespace)
	if err == nil && !asked.Checkpoint {
		all = append(all, fmt.Sprintf("%s does nothing without %s: %q", keys.RestoreFrom, keys.CheckpointMode, keys.True))
	}
	soon, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	err = b.Checkpoints.Get(soon, client.ObjectKey{Namespace: request.Namespace, Name: name}, &v1alpha1.Checkpoint{})
	if apierrors.IsNotFound(err) {
		all = append(all, fmt.Sprintf("%s names Checkpoint %s, which there is not in namespace %s: what is made before it is there does not begin from it",
			keys.RestoreFrom, name, request.Namespace))
	}
	return all
}

// podIn returns the labels and annotations of the pods that an object is, or makes; those of a Binding, which go onto its pod, are the pod's own.
func podIn(kind string, raw []byte) (*corev1.Pod, error) {
	type template struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	var object struct {
		template
		Spec struct {
			Template    template `json:"template"`
			JobTemplate struct {
				Spec struct {
					Template template `json:"template"`
				} `json:"spec"`
			} `json:"jobTemplate"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("read the %s: %w", kind, err)
	}
	of := object.Spec.Template
	switch kind {
	case "Pod", "Binding":
		of = object.template
	case "CronJob":
		of = object.Spec.JobTemplate.Spec.Template
	}
	pod := &corev1.Pod{}
	pod.Labels, pod.Annotations = of.Metadata.Labels, of.Metadata.Annotations
	return pod, nil
}

// serviceAccount begins the names of the users that Kubernetes' own controllers are.
const serviceAccount = "system:serviceaccount:kube-system:"

// controllers are those of Kubernetes that make a resource from a template, which was checked where it was written. The webhook's configuration has them,
// too: about what they make it does not even ask.
var controllers = map[string][]string{
	"pods": {
		serviceAccount + "daemon-set-controller", serviceAccount + "job-controller", serviceAccount + "replicaset-controller",
		serviceAccount + "replication-controller", serviceAccount + "statefulset-controller",
	},
	"replicasets": {serviceAccount + "deployment-controller"},
	"jobs":        {serviceAccount + "cronjob-controller"},
}

// wasCheckedBefore tells whether an object comes from a template that was checked. It goes by who makes it, and not by the owner that it names, which anybody
// can write.
func wasCheckedBefore(resource, user string) bool {
	return slices.Contains(controllers[resource], user)
}

// reviewOf asks whether whoever makes a request may restore a Checkpoint.
func reviewOf(request admissionv1.AdmissionRequest, name string) *authorizationv1.SubjectAccessReview {
	user := request.UserInfo
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	return &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: keys.VerbRestore, Group: v1alpha1.SchemeGroupVersion.Group, Version: v1alpha1.SchemeGroupVersion.Version, Resource: "checkpoints",
			Namespace: request.Namespace, Name: name,
		},
	}}
}

// refusal says who may not do what, and what allows it.
func refusal(review *authorizationv1.SubjectAccessReview) string {
	a := review.Spec.ResourceAttributes
	return fmt.Sprintf("user %q may not %s %s.%s %q in namespace %q, which %s names; what allows it is a RoleBinding to a Role of that namespace with "+
		"rules: [{apiGroups: [%s], resources: [%s], resourceNames: [%s], verbs: [%s]}]",
		review.Spec.User, a.Verb, a.Resource, a.Group, a.Name, a.Namespace, keys.RestoreFrom, a.Group, a.Resource, a.Name, a.Verb)
}
