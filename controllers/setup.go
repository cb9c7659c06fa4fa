package controllers

import (
	"context"
	"errors"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/checkpoint"
	"github.com/transparent-checkpoint/operator/controllers/checkpointpolicy"
	"github.com/transparent-checkpoint/operator/controllers/location"
	"github.com/transparent-checkpoint/operator/controllers/operatorconfig"
	"github.com/transparent-checkpoint/operator/controllers/pod"
	"github.com/transparent-checkpoint/operator/controllers/restorepolicy"
	"github.com/transparent-checkpoint/operator/controllers/retention"
	"github.com/transparent-checkpoint/operator/controllers/trigger"
	"github.com/transparent-checkpoint/operator/storage"
)

// Options are what the controllers need besides the manager.
type Options struct {
	// Namespace is the operator's own, in which the Secrets of locations are.
	Namespace string
	// Open opens the store of a location, with the data of the Secret that it names.
	Open func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error)
	// Config tells what is said for the whole operator; nil for one that reads the manager's cache.
	Config *operatorconfig.Source
}

// SetUp adds all controllers to the manager.
func SetUp(manager ctrl.Manager, options Options) error {
	config := options.Config
	if config == nil {
		config = &operatorconfig.Source{Reader: manager.GetClient(), Namespace: options.Namespace}
	}
	return errors.Join(
		operatorconfig.SetUp(manager, config),
		pod.SetUp(manager, options.Namespace, config),
		checkpoint.SetUp(manager, checkpoint.Options{Namespace: options.Namespace, Open: options.Open}),
		checkpointpolicy.SetUp(manager),
		trigger.SetUp(manager),
		retention.SetUp(manager, config),
		restorepolicy.SetUp(manager),
		location.SetUp(manager, location.Options{Namespace: options.Namespace, Open: options.Open}),
	)
}
