package location

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	"github.com/transparent-checkpoint/operator/controllers/deleted"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/secrets"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// mostRecreated is how many Checkpoints a location may have made anew in a namespace: the bucket may be somebody else's, and the API server holds them all.
const mostRecreated = 10_000

// mostNamed is how many namespaces, or states that cannot be read, a message names.
const mostNamed = 5

// Syncer makes the Checkpoints anew of which a bucket has the states, and the cluster has not the objects (docs/designs/0011). It holds one state at a time.
type Syncer struct {
	Options
	Client client.Client
	// Live reads past the cache.
	Live     client.Reader
	Recorder events.EventRecorder
	Now      func() time.Time
	// most is mostRecreated but in tests.
	most int
}

// setUpSync adds the syncer to the manager, as a controller of its own: a large bucket keeps no location from being tried.
func setUpSync(manager ctrl.Manager, options Options) error {
	s := &Syncer{
		Options: options, Client: manager.GetClient(), Live: manager.GetAPIReader(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now,
		most: mostRecreated,
	}
	return ctrl.NewControllerManagedBy(manager).Named("location-sync").
		For(&v1alpha1.CheckpointStorageLocation{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 2}).
		Complete(s)
}

// Reconcile looks through the bucket of one location, if it is time to, and writes what came of it.
func (s *Syncer) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := s.Client.Get(ctx, request.NamespacedName, location); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	old := meta.FindStatusCondition(location.Status.Conditions, v1alpha1.LocationSynced)
	switch {
	case !location.DeletionTimestamp.IsZero():
		return ctrl.Result{}, nil
	case location.Spec.SyncInterval == nil && old == nil:
		return ctrl.Result{}, nil
	case location.Spec.SyncInterval == nil: // it was taken away, and so is what was said
		return ctrl.Result{}, s.write(ctx, location, apply.CheckpointStorageLocationStatus())
	}
	if last := location.Status.LastSyncTime; last != nil && old != nil && old.ObservedGeneration == location.Generation {
		if left := last.Add(pause(location, *old)).Sub(s.Now()); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
	}
	t, err := s.sync(ctx, location)
	if ctx.Err() != nil || errors.As(err, new(apierrors.APIStatus)) { // the manager ends; or it is not the location's fault
		return ctrl.Result{}, errors.Join(ctx.Err(), err)
	}
	synced := t.condition(err)
	synced.ObservedGeneration = location.Generation
	status := apply.CheckpointStorageLocationStatus().WithLastSyncTime(metav1.NewTime(s.Now())).
		WithConditions(condition.Apply(location.Status.Conditions, synced, s.Now()))
	if err := s.write(ctx, location, status); err != nil {
		return ctrl.Result{}, err
	}
	if isNew := old == nil || old.Reason != synced.Reason; isNew || t.recreated > 0 {
		kind := corev1.EventTypeNormal
		if synced.Status != metav1.ConditionTrue {
			kind = corev1.EventTypeWarning
		}
		s.Recorder.Eventf(location, nil, kind, synced.Reason, "Sync", "%s", v1alpha1.EventNote(synced.Message))
	}
	if old == nil && location.Spec.Encryption == nil {
		s.Recorder.Eventf(location, nil, corev1.EventTypeWarning, "BucketIsTrusted", "Sync", "%s", "what is found in a bucket is restored as root, "+
			"and without spec.encryption nothing says who put it there: let few write to this bucket, or give the location keys")
	}
	return ctrl.Result{RequeueAfter: pause(location, synced)}, nil
}

// pause is how long it is until the next look. A service that does not answer is asked again sooner.
func pause(location *v1alpha1.CheckpointStorageLocation, synced metav1.Condition) time.Duration {
	interval := location.Spec.SyncInterval.Duration
	if synced.Reason != v1alpha1.LocationSyncCompleted && synced.Reason != v1alpha1.LocationSyncIncomplete {
		return min(interval, whileBad)
	}
	return interval
}

func (s *Syncer) write(ctx context.Context, location *v1alpha1.CheckpointStorageLocation,
	status *apply.CheckpointStorageLocationStatusApplyConfiguration,
) error {
	wanted := apply.CheckpointStorageLocation(location.Name).WithUID(location.UID).WithStatus(status)
	return client.IgnoreNotFound(s.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.SyncFields), client.ForceOwnership))
}

// look is one look through the bucket of a location.
type look struct {
	*Syncer
	location *v1alpha1.CheckpointStorageLocation
	store    storage.Store
	keys     image.Keys
	// known are the states that have their Checkpoints, and gone those of them that were made anew here and did not come up in the bucket. Both are
	// called NAMESPACE/STORAGENAME.
	known map[string]bool
	gone  map[string]*v1alpha1.Checkpoint
	// deleted are the storage names of what was deleted here, and stays deleted. Those that have come up are true.
	deleted map[string]bool
	// namespaces tells which there are, and anew how many Checkpoints of this location were made anew in each.
	namespaces map[string]bool
	anew       map[string]int
	tally
}

// sync looks through the bucket of a location. An error says that it did not come to the end of it.
func (s *Syncer) sync(ctx context.Context, location *v1alpha1.CheckpointStorageLocation) (tally, error) {
	l := &look{
		Syncer: s, location: location, known: map[string]bool{}, gone: map[string]*v1alpha1.Checkpoint{}, deleted: map[string]bool{},
		namespaces: map[string]bool{}, anew: map[string]int{}, tally: tally{missing: map[string]int{}},
	}
	if err := l.begin(ctx); err != nil {
		return l.tally, err
	}
	for found, err := range image.List(ctx, l.store, keys.StorageRoot) {
		if err == nil {
			err = l.see(ctx, found)
		}
		if err != nil {
			return l.tally, err
		}
	}
	return l.tally, l.end(ctx)
}

// begin opens the store and reads what the cluster has.
func (l *look) begin(ctx context.Context) error {
	held, err := l.secrets(ctx, l.Client, l.location)
	if err != nil {
		return err
	}
	l.keys = held.Keys
	if l.store, err = l.Open(ctx, l.location, held.Data); err != nil {
		return err
	}
	// First the Checkpoints, then the notes: whatever is deleted in between is among either of them.
	checkpoints := &v1alpha1.CheckpointList{}
	if err := l.Client.List(ctx, checkpoints); err != nil {
		return err
	}
	for i := range checkpoints.Items {
		c := &checkpoints.Items[i]
		key := c.Namespace + "/" + c.StorageName()
		l.known[key] = true
		if c.IsRecreated() && c.Status.Source != nil && c.Status.LocationName == l.location.Name {
			l.gone[key] = c
			l.anew[c.Namespace]++
		}
	}
	notes, err := deleted.Read(ctx, l.Live, l.Namespace, l.location.Name)
	for name, note := range notes {
		_, _, l.deleted[name] = deleted.Leftover(note) // that is no useless note before the collector has done its work
	}
	return err
}

// see deals with one state of the bucket.
func (l *look) see(ctx context.Context, found image.Listed) error {
	namespace, lineage, isOurs := keys.OfStorageFolder(found.Folder)
	if !isOurs {
		return nil
	}
	key := namespace + "/" + found.Name
	delete(l.gone, key)
	_, wasDeleted := l.deleted[found.Name]
	if wasDeleted {
		l.deleted[found.Name] = true
	}
	l.found++
	switch {
	case l.known[key]:
		return nil
	case wasDeleted:
		l.dismissed++
		return nil
	}
	isThere, err := l.isThere(ctx, namespace)
	if err != nil {
		return err
	}
	if isThere && l.anew[namespace] >= l.most {
		l.tooMany++
		return nil
	}
	if isThere {
		err = l.recreate(ctx, found, namespace, lineage)
	}
	switch {
	case !isThere || errors.Is(err, errNoNamespace):
		l.missing[namespace]++
		return nil
	case errors.Is(err, errGone):
		l.found--
		return nil
	case ctx.Err() != nil || isPassing(err):
		return err
	case err != nil:
		l.broken++
		if len(l.complaints) < mostNamed {
			l.complaints = append(l.complaints, fmt.Sprintf("%s: %v", key, err))
		}
	}
	return nil
}

// isPassing tells whether an error is of a service, the store's or the API server's, which cannot at the moment, and not of one state.
func isPassing(err error) bool {
	return errors.Is(err, storage.ErrUnavailable) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err)
}

// isThere tells whether there is a namespace that is not being deleted.
func (l *look) isThere(ctx context.Context, name string) (bool, error) {
	isThere, known := l.namespaces[name]
	if known {
		return isThere, nil
	}
	if len(validation.IsDNS1123Label(name)) > 0 { // who can write to the bucket names its folders
		return false, nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := l.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read namespace %s: %w", name, err)
	}
	l.namespaces[name] = err == nil && namespace.DeletionTimestamp.IsZero()
	return l.namespaces[name], nil
}

// end deals with what did not come up in the bucket: notes of it are of no use, and what was made anew of it can be restored no more.
func (l *look) end(ctx context.Context) error {
	var useless []string
	for name, isThere := range l.deleted {
		if !isThere {
			useless = append(useless, name)
		}
	}
	if err := deleted.Drop(ctx, l.Client, l.Namespace, l.location.Name, useless); err != nil {
		return fmt.Errorf("drop notes of what was deleted: %w", err)
	}
	for _, c := range l.gone {
		if claim := c.Status.Claim; !c.DeletionTimestamp.IsZero() || claim != nil && claim.Phase != v1alpha1.ClaimConsumed {
			continue
		}
		exists, err := l.folder(c.Namespace, c.Status.Source.Lineage).Exists(ctx, c.StorageName())
		if err != nil {
			return err
		}
		if exists { // it was made, and has come, since
			continue
		}
		err = l.Client.Delete(ctx, c, client.Preconditions{UID: &c.UID, ResourceVersion: &c.ResourceVersion})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		l.removed++
		l.Recorder.Eventf(c, nil, corev1.EventTypeNormal, "Deleted", "Sync", "location %s has its state no more", l.location.Name)
	}
	return nil
}

func (l *look) folder(namespace, lineage string) *image.Folder {
	return &image.Folder{Store: l.store, Name: keys.StorageFolder(namespace, lineage), Keys: l.keys}
}

// tally counts what a look came upon.
type tally struct {
	found, recreated, dismissed, removed, broken, tooMany int
	missing                                               map[string]int // by namespace
	complaints                                            []string       // of what is broken
}

// condition is what it comes to, with the error by which it ended too early.
func (t tally) condition(err error) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.LocationSynced, Status: metav1.ConditionFalse}
	var problem *secrets.Problem
	switch {
	case errors.As(err, &problem):
		c.Reason, c.Message = problem.Reason, problem.Message
	case err != nil:
		c.Reason, c.Message = reasonOf(err)
	case t.broken > 0 || t.tooMany > 0:
		c.Reason, c.Message = v1alpha1.LocationSyncIncomplete, t.String()
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.LocationSyncCompleted, t.String()
	}
	return c
}

// String says it in a sentence, without what is none.
func (t tally) String() string {
	text := fmt.Sprintf("%d in the bucket, %d made anew", t.found, t.recreated)
	if n := len(t.missing); n > 0 {
		sum, names := 0, slices.Sorted(maps.Keys(t.missing))
		for _, count := range t.missing {
			sum += count
		}
		text += fmt.Sprintf("; %d in namespaces that are not there: %s", sum, strings.Join(names[:min(n, mostNamed)], ", "))
		if n > mostNamed {
			text += fmt.Sprintf(" and %d more", n-mostNamed)
		}
	}
	if t.dismissed > 0 {
		text += fmt.Sprintf("; %d were deleted here", t.dismissed)
	}
	if t.removed > 0 {
		text += fmt.Sprintf("; %d deleted, as the bucket has them no more", t.removed)
	}
	if t.tooMany > 0 {
		text += fmt.Sprintf("; %d are more than a location may have made anew in a namespace, which is %d", t.tooMany, mostRecreated)
	}
	if t.broken > 0 {
		text += fmt.Sprintf("; %d cannot be made anew: %s", t.broken, strings.Join(t.complaints, "; "))
		if n := t.broken - len(t.complaints); n > 0 {
			text += fmt.Sprintf("; and %d more", n)
		}
	}
	return text
}
