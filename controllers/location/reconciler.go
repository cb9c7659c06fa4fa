package location

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/secrets"
	"github.com/transparent-checkpoint/operator/storage"
)

// How often a location is tried, one that works and one that does not.
const (
	whileGood = 5 * time.Minute
	whileBad  = 30 * time.Second
)

// Options are what the reconciler needs besides the manager.
type Options struct {
	// Namespace is that of the Secrets.
	Namespace string
	// Open opens the store of a location with the data of its Secrets, see internal/secrets.
	Open func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error)
}

// secrets reads those of a location.
func (o Options) secrets(ctx context.Context, reader client.Reader, location *v1alpha1.CheckpointStorageLocation) (secrets.Secrets, error) {
	return secrets.Read(location, o.Namespace, func(name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, reader.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: name}, secret)
	})
}

// Reconciler tries one location at a time.
type Reconciler struct {
	Options
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time
}

// SetUp adds the reconciler to the manager, the syncer and the collector. A location whose server does not answer keeps no other waiting.
func SetUp(manager ctrl.Manager, options Options) error {
	r := &Reconciler{Options: options, Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now}
	if err := errors.Join(setUpSync(manager, options), setUpCollector(manager, options)); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(manager).Named("location").
		For(&v1alpha1.CheckpointStorageLocation{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, isAskedFor()))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.ofSecret)).
		Watches(&v1alpha1.CheckpointStorageLocation{}, handler.EnqueueRequestsFromMapFunc(r.otherDefaults),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
}

// isAskedFor tells of a change whether somebody wants the location to be tried at once.
func isAskedFor() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[v1alpha1.LocationCheck] != e.ObjectNew.GetAnnotations()[v1alpha1.LocationCheck]
	}}
}

// ofSecret returns the locations whose credentials or keys are in a Secret.
func (r *Reconciler) ofSecret(ctx context.Context, secret client.Object) (requests []reconcile.Request) {
	all := &v1alpha1.CheckpointStorageLocationList{}
	if err := r.Client.List(ctx, all); err != nil || secret.GetNamespace() != r.Namespace {
		return nil // they are tried every few minutes anyway
	}
	for i := range all.Items {
		if slices.Contains(secrets.Names(&all.Items[i]), secret.GetName()) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return requests
}

// otherDefaults returns the locations with the role Default: which of them is in use depends on all.
func (r *Reconciler) otherDefaults(ctx context.Context, location client.Object) (requests []reconcile.Request) {
	all := &v1alpha1.CheckpointStorageLocationList{}
	if err := r.Client.List(ctx, all); err != nil {
		return nil // they are tried every few minutes anyway
	}
	for i := range all.Items {
		if l := &all.Items[i]; l.Spec.Role == v1alpha1.RoleDefault && l.Name != location.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(l)})
		}
	}
	return requests
}

// Reconcile tries one location and writes what came of it.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := r.Client.Get(ctx, request.NamespacedName, location); err != nil {
		if apierrors.IsNotFound(err) {
			isAvailable.DeleteLabelValues(request.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !location.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	available, err := r.try(ctx, location)
	if err != nil {
		return ctrl.Result{}, err
	}
	measure(location.Name, available)
	inUse, hasRole, err := r.inUse(ctx, location)
	if err != nil {
		return ctrl.Result{}, err
	}
	said := []metav1.Condition{available}
	if hasRole {
		said = append(said, inUse)
	}
	status := apply.CheckpointStorageLocationStatus().WithObservedGeneration(location.Generation).WithLastValidationTime(metav1.NewTime(r.Now()))
	for _, c := range said {
		status.WithConditions(condition.Apply(location.Status.Conditions, c, r.Now()))
	}
	wanted := apply.CheckpointStorageLocation(location.Name).WithUID(location.UID).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.ManagerFields), client.ForceOwnership); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	for _, c := range said {
		r.tell(location, c)
	}
	if available.Status != metav1.ConditionTrue {
		return ctrl.Result{RequeueAfter: whileBad}, nil
	}
	return ctrl.Result{RequeueAfter: whileGood}, nil
}

// tell makes an event of a condition whose reason is new.
func (r *Reconciler) tell(location *v1alpha1.CheckpointStorageLocation, c metav1.Condition) {
	if old := meta.FindStatusCondition(location.Status.Conditions, c.Type); old != nil && old.Reason == c.Reason {
		return
	}
	kind := corev1.EventTypeWarning
	if c.Status == metav1.ConditionTrue {
		kind = corev1.EventTypeNormal
	}
	r.Recorder.Eventf(location, nil, kind, c.Reason, "Validate", "%s", v1alpha1.EventNote(c.Message))
}

// inUse returns the condition Default of a location with that role.
func (r *Reconciler) inUse(ctx context.Context, location *v1alpha1.CheckpointStorageLocation) (c metav1.Condition, hasRole bool, err error) {
	c = metav1.Condition{
		Type: v1alpha1.LocationDefault, Status: metav1.ConditionTrue, ObservedGeneration: location.Generation, Reason: v1alpha1.LocationInUse,
		Message: "new Checkpoints are stored in it",
	}
	if location.Spec.Role != v1alpha1.RoleDefault {
		return c, false, nil
	}
	all := &v1alpha1.CheckpointStorageLocationList{}
	if err := r.Client.List(ctx, all); err != nil {
		return c, true, err
	}
	if first := v1alpha1.DefaultLocation(all.Items); first != nil && first.Name != location.Name {
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.LocationAnotherDefault
		c.Message = fmt.Sprintf("location %s has the role Default, too, and goes before this one; give one of them the role Named", first.Name)
	} else if location.IsReadOnly() {
		c.Message = "new Checkpoints belong into it, and wait on their nodes until it can be written to"
	}
	return c, true, nil
}

// try returns the condition Available; an error says that it could not even be tried.
func (r *Reconciler) try(ctx context.Context, location *v1alpha1.CheckpointStorageLocation) (metav1.Condition, error) {
	available := metav1.Condition{Type: v1alpha1.LocationAvailable, Status: metav1.ConditionFalse, ObservedGeneration: location.Generation}
	held, err := r.secrets(ctx, r.Client, location)
	var problem *secrets.Problem
	if errors.As(err, &problem) {
		available.Reason, available.Message = problem.Reason, problem.Message
		return available, nil
	}
	if err != nil {
		return available, err
	}
	if missing := missingKey(held.Data); missing != "" {
		available.Reason = v1alpha1.LocationCredentialsMissing
		available.Message = fmt.Sprintf("the Secret %s has no key %s", location.Spec.Credentials.SecretName, missing)
		return available, nil
	}
	store, err := r.Open(ctx, location, held.Data)
	message := "an object was written, read and deleted"
	switch {
	case err == nil && location.IsReadOnly():
		message = "its objects could be listed; nothing is written to it"
		err = probeReading(ctx, store)
	case err == nil:
		err = probe(ctx, store, fmt.Sprintf("%s-%d", location.UID, r.Now().UnixNano()))
	}
	if err != nil {
		available.Reason, available.Message = reasonOf(err)
		return available, nil
	}
	available.Status, available.Reason, available.Message = metav1.ConditionTrue, v1alpha1.LocationValidated, message
	return available, nil
}
