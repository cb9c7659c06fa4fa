package location

import (
	"context"
	"errors"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/deleted"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// How often it is looked whether there is something to collect, for how long one state is tried, and how many are in one turn.
const (
	collectInterval = 10 * time.Minute
	collectTime     = time.Minute
	collectMost     = 100
)

// Collector deletes from buckets what the deletion of Checkpoints has left behind there, as the bucket could not be used for too long. The notes of it
// (controllers/deleted) are all that it goes by: what else lies in a bucket may be another cluster's.
type Collector struct {
	Options
	Client client.Client
	// Live reads past the cache.
	Live     client.Reader
	Recorder events.EventRecorder
}

// setUpCollector adds the collector to the manager, as a controller of its own: deletions keep no location from being tried.
func setUpCollector(manager ctrl.Manager, options Options) error {
	c := &Collector{
		Options: options, Client: manager.GetClient(), Live: manager.GetAPIReader(), Recorder: manager.GetEventRecorder("checkpoint-manager"),
	}
	becameUsable := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return isUsable(e.ObjectNew) && !isUsable(e.ObjectOld) }}
	return ctrl.NewControllerManagedBy(manager).Named("location-collector").
		For(&v1alpha1.CheckpointStorageLocation{}, builder.WithPredicates(becameUsable)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 2}).
		Complete(c)
}

// isUsable tells whether something can be deleted in a location.
func isUsable(object client.Object) bool {
	location, is := object.(*v1alpha1.CheckpointStorageLocation)
	return is && !location.IsReadOnly() && location.DeletionTimestamp.IsZero() &&
		meta.IsStatusConditionTrue(location.Status.Conditions, v1alpha1.LocationAvailable)
}

// Reconcile deletes what was left behind in one location, if that can be used.
func (c *Collector) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := c.Client.Get(ctx, request.NamespacedName, location); err != nil {
		if apierrors.IsNotFound(err) {
			leftovers.DeleteLabelValues(request.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	later := ctrl.Result{RequeueAfter: collectInterval}
	if !isUsable(location) {
		return later, nil // it is looked at when it is
	}
	notes, err := deleted.Read(ctx, c.Live, c.Namespace, location.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	maps.DeleteFunc(notes, func(_, note string) bool { _, _, is := deleted.Leftover(note); return !is })
	leftovers.WithLabelValues(location.Name).Set(float64(len(notes)))
	if len(notes) == 0 {
		return later, nil
	}
	gone, err := c.collect(ctx, location, notes)
	if len(gone) > 0 {
		collected.Add(float64(len(gone)))
		leftovers.WithLabelValues(location.Name).Set(float64(len(notes) - len(gone)))
		c.Recorder.Eventf(location, nil, corev1.EventTypeNormal, "LeftoversDeleted", "Collect",
			"deleted the data of %d Checkpoints, of %d whose data was left behind", len(gone), len(notes))
		err = errors.Join(err, deleted.Drop(ctx, c.Client, c.Namespace, location.Name, gone))
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "delete what was left behind", "location", location.Name, "left", len(notes)-len(gone))
		return later, nil
	}
	if len(gone) < len(notes) {
		later.RequeueAfter = time.Second
	}
	return later, nil
}

// collect deletes states of a location, some of them at a time, and returns the storage names of those that are gone.
func (c *Collector) collect(ctx context.Context, location *v1alpha1.CheckpointStorageLocation, notes map[string]string) (gone []string, err error) {
	held, err := c.secrets(ctx, c.Client, location)
	if err != nil {
		return nil, err
	}
	store, err := c.Open(ctx, location, held.Data)
	if err != nil {
		return nil, err
	}
	tried := 0
	for name, note := range notes { // in any order, so that those that cannot go keep no others
		if tried++; tried > collectMost {
			break
		}
		_, folder, _ := deleted.Leftover(note)
		attempt, cancel := context.WithTimeout(ctx, collectTime)
		deleteErr := (&image.Folder{Store: store, Name: folder, Keys: held.Keys}).Delete(attempt, name)
		cancel()
		if deleteErr != nil { // of one lineage a key may be missing, and others can go
			err = errors.Join(err, deleteErr)
			continue
		}
		gone = append(gone, name)
	}
	return gone, err
}
