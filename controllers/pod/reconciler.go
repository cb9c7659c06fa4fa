package pod

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/transparent-checkpoint/operator/controllers/operatorconfig"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Reconciler looks after one labelled pod at a time.
type Reconciler struct {
	client.Client
	// Live reads past the cache.
	Live   client.Reader
	Events events.EventRecorder
	Now    func() time.Time
	// Operator is the operator's own Namespace.
	Operator string
	// Config tells which namespaces are allowed; nil is all.
	Config *operatorconfig.Source
	gone   gone
	// told has the UIDs of terminated pods, by their names, of which their Jobs were told.
	told sync.Map
}

// SetUp adds the reconciler to the manager, and that of Namespaces whose pods it cannot see. operator is the operator's own Namespace.
func SetUp(manager ctrl.Manager, operator string, config *operatorconfig.Source) error {
	r := &Reconciler{
		Client: manager.GetClient(), Live: manager.GetAPIReader(), Events: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now, Operator: operator,
		Config: config,
	}
	unlabelled := &namespaces{pods: r}
	err := ctrl.NewControllerManagedBy(manager).Named("namespace").For(&corev1.Namespace{}).Complete(unlabelled)
	if err != nil {
		return err
	}
	return r.watchNamespaces(ctrl.NewControllerManagedBy(manager).Named("pod").For(&corev1.Pod{}).Watches(&corev1.Pod{}, r.gone.handler())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).Complete(r)
}

// Reconcile does what is due for a pod. The steps do not depend on each other; one that fails keeps none from being tried.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if err := r.terminatedByForce(ctx, request.NamespacedName); err != nil { // another of that name may be there already
		return ctrl.Result{}, err
	}
	pod := &corev1.Pod{}
	if err := r.Get(ctx, request.NamespacedName, pod); err != nil {
		if apierrors.IsNotFound(err) {
			r.told.Delete(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !podspec.Asks(pod) {
		return ctrl.Result{}, nil
	}
	marked := r.mark(ctx, pod) // first: soon the Job controller looks at the pod
	terminated := r.terminated(ctx, pod)
	policyAfter, spawned := r.spawn(ctx, pod)
	protectAfter, protected := r.protect(ctx, pod)
	counted := r.count(ctx, pod)
	told := r.tellJob(ctx, pod)
	if err := errors.Join(marked, terminated, spawned, protected, counted, told); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: soonest(policyAfter, protectAfter)}, nil
}

// soonest is the shorter of two times, of which 0 is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// going says of an error that the pod, or its namespace, is going away, and that nothing more is to be done for it.
func going(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

func (r *Reconciler) now() metav1.Time { return metav1.NewTime(r.Now()) }
