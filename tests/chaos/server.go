package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// An API server that is not away, and no help either.

// limping is a program of the control plane that stands still three quarters of the time.
func limping(component string) fault {
	const stands, goes = 1500 * time.Millisecond, 500 * time.Millisecond
	var end context.CancelFunc
	var ended chan error
	return fault{
		name: component + " slow", lasts: true,
		begin: func(ctx context.Context, r *run, _ string) error {
			var during context.Context
			during, end = context.WithCancel(ctx)
			ended = make(chan error, 1)
			go func() {
				var err error
				always := context.WithoutCancel(ctx) // what was paused is resumed
				for err == nil && during.Err() == nil {
					_, err = lab.Localcluster(always, r.cluster.Name, "component", "pause", component)
					_ = pause(during, stands)
					_, resumed := lab.Localcluster(always, r.cluster.Name, "component", "resume", component)
					err = errors.Join(err, resumed)
					_ = pause(during, goes)
				}
				ended <- err
			}()
			return nil
		},
		end: func(context.Context, *run, string) error { end(); return <-ended },
	}
}

// tooManyName is that of the objects by which the API server has nothing left for the operator: it answers 429.
const tooManyName = "chaos-too-many"

func tooMany(ctx context.Context, r *run, _ string) error {
	none := int32(0)
	nothing := &flowcontrolv1.LimitedPriorityLevelConfiguration{
		NominalConcurrencyShares: &none, LendablePercent: &none, BorrowingLimitPercent: &none,
		LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
	}
	level := &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: tooManyName},
		Spec:       flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: nothing},
	}
	var operator []flowcontrolv1.Subject
	for _, namespace := range []string{install.Namespace, install.AgentNamespace} {
		all := &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: flowcontrolv1.NameAll}
		operator = append(operator, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: all})
	}
	schema := &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: tooManyName},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: tooManyName}, MatchingPrecedence: 2,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{Subjects: operator, ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
				Verbs: []string{rbacv1.VerbAll}, APIGroups: []string{rbacv1.APIGroupAll}, Resources: []string{rbacv1.ResourceAll},
				Namespaces: []string{flowcontrolv1.NamespaceEvery}, ClusterScope: true,
			}}}},
		},
	}
	flow := r.cluster.Client.FlowcontrolV1()
	if _, err := flow.PriorityLevelConfigurations().Create(ctx, level, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err := flow.FlowSchemas().Create(ctx, schema, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func enough(ctx context.Context, r *run, _ string) error {
	flow := r.cluster.Client.FlowcontrolV1()
	return errors.Join(unlessGone(flow.FlowSchemas().Delete(ctx, tooManyName, metav1.DeleteOptions{})),
		unlessGone(flow.PriorityLevelConfigurations().Delete(ctx, tooManyName, metav1.DeleteOptions{})))
}

// unlessGone is the error of a deletion, unless there is nothing to delete.
func unlessGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// rollout has manager and agents be replaced one after the other, as an upgrade does. What is in their place is ready when the cycle is over, or the next
// one meets it in the middle.
func rollout(ctx context.Context, r *run, _ string) error {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"chaos/rollout":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	apps := r.cluster.Client.AppsV1()
	_, manager := apps.Deployments(install.Namespace).Patch(ctx, install.Manager, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	_, agent := apps.DaemonSets(install.AgentNamespace).Patch(ctx, install.Agent, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	r.hit()
	return errors.Join(manager, agent)
}
