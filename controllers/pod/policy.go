package pod

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// nameTaken is how long we wait for the garbage collector to remove the policy of an earlier owner of the same name.
const nameTaken = 10 * time.Second

// spawn makes the RestorePolicy of the pod's owner, unless there is one. What a person changed in it stays.
func (r *Reconciler) spawn(ctx context.Context, pod *corev1.Pod) (again time.Duration, err error) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || !pod.DeletionTimestamp.IsZero() || owner.Kind == "Node" || !r.Config.Allows(ctx, pod.Namespace) { // a mirror pod belongs to its node
		return 0, nil
	}
	policy := &v1alpha1.RestorePolicy{}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: policyName(owner.Kind, owner.Name)}
	switch err := r.Get(ctx, key, policy); {
	case err == nil:
		if o := policy.Spec.Owner; o != nil && o.UID != owner.UID {
			return nameTaken, nil
		}
		return 0, nil
	case !apierrors.IsNotFound(err):
		return 0, err
	}
	policy = &v1alpha1.RestorePolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID}},
		},
		Spec: v1alpha1.RestorePolicySpec{
			Owner: &v1alpha1.Owner{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID},
		},
	}
	err = r.Create(ctx, policy)
	if apierrors.IsAlreadyExists(err) || going(err) {
		return 0, nil
	}
	return 0, err
}

// maxName bounds the name of a policy, so that it can be the value of a label.
const (
	maxName    = 63
	hashDigits = 8
)

// policyName is KIND-OWNER, cut short with a hash where there is no room.
func policyName(kind, owner string) string {
	name := strings.ToLower(kind) + "-" + owner
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(name[:maxName-hashDigits-1], "-.") + "-" + hex.EncodeToString(sum[:])[:hashDigits]
}
