package location

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
	"github.com/transparent-checkpoint/operator/storage/observe"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/s3"
)

// How long one call to the store is repeated before the caller hears of it. It is short, so that a condition says soon what is wrong; the
// caller tries again, and what was done is not done again.
const (
	firstWait   = 250 * time.Millisecond
	longestWait = 10 * time.Second
	limit       = 15 * time.Second
)

// buffers is how many parts may be in memory of what is larger than a pack: indexes and manifests of large checkpoints, at the end of an upload.
const buffers = 2

// Open returns the store of a location. secret is the data of its Secrets, see internal/secrets. It does not talk to the server. Values that cannot be
// right are storage.ErrInvalid with the field, or the key of the Secret, but never its value. Repeated calls are logged with the context's logger.
//
// Each store keeps connections of its own: open it once for each generation of the location and its Secret.
func Open(ctx context.Context, location *v1alpha1.CheckpointStorageLocation, secret map[string][]byte) (storage.Store, error) {
	options, err := optionsOf(location, secret)
	if err != nil {
		return nil, fmt.Errorf("storage location %q: %w", location.Name, err)
	}
	store, err := s3.New(options)
	if err != nil {
		return nil, fmt.Errorf("storage location %q: %w", location.Name, err)
	}
	log := logr.FromContextOrDiscard(ctx).WithValues("location", location.Name)
	return retry.New(observe.New(store, count(location.Name)), retry.Options{FirstWait: firstWait, LongestWait: longestWait, Limit: limit,
		Notify: func(op, key string, attempt int, err error, wait time.Duration) {
			log.V(1).Info("the storage is asked again", "op", op, "key", key, "attempt", attempt, "reason", err.Error(), "wait", wait)
		}}), nil
}

func optionsOf(location *v1alpha1.CheckpointStorageLocation, secret map[string][]byte) (s3.Options, error) {
	spec := &location.Spec
	for _, key := range []string{v1alpha1.CredentialsAccessKeyID, v1alpha1.CredentialsSecretAccessKey} {
		if len(secret[key]) == 0 {
			return s3.Options{}, fmt.Errorf("the Secret %q lacks the key %q: %w", spec.Credentials.SecretName, key, storage.ErrInvalid)
		}
	}
	options := s3.Options{
		Endpoint: spec.Endpoint, Bucket: spec.Bucket, Region: spec.Region, Prefix: spec.Prefix, CA: spec.CABundle,
		Credentials: s3.Credentials{
			AccessKey:    string(secret[v1alpha1.CredentialsAccessKeyID]),
			SecretKey:    string(secret[v1alpha1.CredentialsSecretAccessKey]),
			SessionToken: string(secret[v1alpha1.CredentialsSessionToken]),
		},
		PartSize: image.MaxPack, // so that a pack is one request, and needs no other buffer than its own
		Buffers:  buffers,
	}
	if e := spec.ServerSideEncryption; e != nil {
		options.ServerSide = s3.ServerSide{Method: s3.ServerSideMethod(e.Type), KMSKeyID: e.KMSKeyID}
		if e.Type == v1alpha1.ServerSideCustomer {
			options.ServerSide.CustomerKey = secret[v1alpha1.CustomerKey]
		}
	}
	switch spec.Addressing {
	case v1alpha1.AddressingPath:
		options.PathStyle = true
	case v1alpha1.AddressingVirtualHost:
		options.HostStyle = true
	case v1alpha1.AddressingAuto, "":
	default:
		return s3.Options{}, fmt.Errorf("addressing is %q, which this version does not know: %w", spec.Addressing, storage.ErrInvalid)
	}
	return options, nil
}
