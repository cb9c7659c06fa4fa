package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// Where the API server reaches Pods and Jobs.
const (
	PodsPath = "/mutate-pods"
	JobsPath = "/mutate-jobs"
)

// Pods answers the API server's question about a pod that is being made.
type Pods struct {
	Decoder admission.Decoder
	// Placement says which nodes a pod prefers; nil for no preference.
	Placement *Placement
	// Policies reads CheckpointPolicies and CheckpointStorageLocations, from a cache: somebody waits for the answer.
	Policies   client.Reader
	Namespaces Namespaces
	// Allows tells whether pods of a namespace are captured and restored; nil is all.
	Allows func(ctx context.Context, namespace string) bool
}

const (
	// placementPatience bounds what the preference may take; the pod is made without it then.
	placementPatience = time.Second
	// readTime bounds how long a cache that is not filled yet is waited for.
	readTime = 500 * time.Millisecond
)

// Handle resolves the pod's keys, calls Admit, and adds the preference for nodes.
func (p Pods) Handle(ctx context.Context, request admission.Request) admission.Response {
	pod := &corev1.Pod{}
	return answer(ctx, p.Decoder, request, pod, func() (warnings []string, err error) {
		asked, warnings, err := p.Namespaces.resolve(ctx, pod, request.Namespace)
		if err != nil {
			return warnings, err
		}
		if p.Allows != nil && !p.Allows(ctx, request.Namespace) {
			return leaveAlone(pod, asked, request.Namespace), nil
		}
		mark(pod, asked) // first: CheckpointPolicies select by labels
		policy, more := p.policyOf(ctx, pod, asked, request.Namespace)
		err = Admit(pod, asked, policy)
		if err == nil && p.Placement != nil && podspec.IsProtected(pod) {
			p.place(ctx, request.Namespace, pod)
		}
		return slices.Concat(warnings, more, Warnings(pod, asked, policy), p.unencrypted(ctx, pod, policy)), err
	})
}

// policyOf returns the CheckpointPolicy of a pod. When the policies cannot be read the pod is made all the same, without one: it is better
// captured as a whole than not at all. Whoever made it is told.
func (p Pods) policyOf(ctx context.Context, pod *corev1.Pod, asked settings.Settings, namespace string,
) (policy *v1alpha1.CheckpointPolicy, warnings []string) {
	if !asked.Checkpoint {
		return nil, nil
	}
	soon, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	policies := &v1alpha1.CheckpointPolicyList{}
	if err := p.Policies.List(soon, policies, client.InNamespace(namespace)); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "read the CheckpointPolicies", "namespace", namespace, "name", pod.Name)
		return nil, []string{"the CheckpointPolicies could not be read: what is captured of this pod is what is captured without one"}
	}
	return matching.CheckpointPolicyOf(pod.Labels, policies.Items), nil
}

// unencrypted warns of a pod whose states are kept in a volume as they are, where they would be encrypted in a bucket. That locations cannot be read keeps no
// pod waiting.
func (p Pods) unencrypted(ctx context.Context, pod *corev1.Pod, policy *v1alpha1.CheckpointPolicy) (warnings []string) {
	effective, err := capture.ParseSettings(pod.Annotations[keys.Effective])
	if err != nil || effective.StorageVolume == nil {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	locations := &v1alpha1.CheckpointStorageLocationList{}
	if err := p.Policies.List(soon, locations); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "read the CheckpointStorageLocations", "name", pod.Name)
		return nil
	}
	location, _, _ := v1alpha1.UploadLocation(policy, locations.Items)
	if location == nil || location.Spec.Encryption == nil {
		return nil
	}
	return []string{fmt.Sprintf("the states of this pod are kept in %s, and not encrypted: the keys of CheckpointStorageLocation %q count for what is "+
		"stored there", effective.StorageVolume, location.Name)}
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

// Jobs answers the API server's question about a Job that is being made.
type Jobs struct {
	Decoder    admission.Decoder
	Namespaces Namespaces
	// Allows is as in Pods.
	Allows func(ctx context.Context, namespace string) bool
}

// Handle resolves the keys of the Job's pods, and calls AdmitJob.
func (j Jobs) Handle(ctx context.Context, request admission.Request) admission.Response {
	job := &batchv1.Job{}
	return answer(ctx, j.Decoder, request, job, func() ([]string, error) {
		asked, _, err := j.Namespaces.resolve(ctx, templateOf(job), request.Namespace) // the warnings come with its pods
		if err != nil {
			return nil, err
		}
		if j.Allows != nil && !j.Allows(ctx, request.Namespace) {
			return nil, nil // its pods are not captured, and count as ever
		}
		return AdmitJob(job, asked)
	})
}

// answer decodes what is being made into object, has it changed, and answers with the difference.
func answer(ctx context.Context, decoder admission.Decoder, request admission.Request, object runtime.Object, admit func() ([]string, error),
) admission.Response {
	if err := decoder.Decode(request, object); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	// The patch is made from the object as we know it: fields of a newer API that were lost in decoding are not in it.
	before, err := json.Marshal(object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	warnings, err := admit()
	if err != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("refused", "kind", request.Kind.Kind, "namespace", request.Namespace, "name", request.Name, "reason", err.Error())
		return admission.Denied(err.Error()).WithWarnings(warnings...)
	}
	after, err := json.Marshal(object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(before, after).WithWarnings(warnings...)
}
