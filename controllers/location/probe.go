package location

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/storage"
)

// probeTime bounds one try. The store repeats what is worth it by itself, for longer than we want to wait here.
const probeTime = 15 * time.Second

// probe writes an object, reads and deletes it, as a checkpoint is.
func probe(ctx context.Context, store storage.Store, name string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	key := "probe/" + name
	if err := store.Put(ctx, key, storage.Bytes([]byte(name)), storage.PutOptions{}); err != nil {
		return fmt.Errorf("write an object: %w", err)
	}
	body, err := store.Get(ctx, key, storage.Range{})
	if err != nil {
		return errors.Join(fmt.Errorf("read an object: %w", err), store.Delete(ctx, key))
	}
	text, err := io.ReadAll(io.LimitReader(body, int64(len(name))+1))
	err = errors.Join(err, body.Close())
	if err == nil && string(text) != name {
		err = storage.ErrCorrupt
	}
	if err != nil {
		err = fmt.Errorf("read an object: %w", err)
	}
	if deleted := store.Delete(ctx, key); deleted != nil {
		err = errors.Join(err, fmt.Errorf("delete an object: %w", deleted))
	}
	return err
}

// probeReading lists what a probe would have written, and so finds out whether the bucket is there and may be read.
func probeReading(ctx context.Context, store storage.Store) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	for _, err := range store.List(ctx, "probe/", "") {
		if err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		break // one is enough
	}
	return nil
}

// reasons are those of the condition Available for errors of a store; the first that fits counts.
var reasons = []struct {
	err    error
	reason string
}{
	{storage.ErrNoBucket, v1alpha1.LocationBucketNotFound},
	{storage.ErrAccessDenied, v1alpha1.LocationAccessDenied},
	{storage.ErrWrongRegion, v1alpha1.LocationWrongRegion},
	{storage.ErrClockSkew, v1alpha1.LocationClockSkew},
	{storage.ErrEncryption, v1alpha1.LocationEncryptionRefused},
	{storage.ErrNoSpace, v1alpha1.LocationBucketFull},
}

// reasonOf returns the reason of a condition for an error of a store, and the message: what it is, and what to do about it if anybody can.
func reasonOf(err error) (reason, message string) {
	reason, message = v1alpha1.LocationUnreachable, err.Error()
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			reason = r.reason
			break
		}
	}
	if advice := storage.Advice(err); advice != "" {
		message += ". " + advice
	}
	return reason, message
}

// missingKey returns a key that credentials need and do not have.
func missingKey(secret map[string][]byte) string {
	for _, key := range []string{v1alpha1.CredentialsAccessKeyID, v1alpha1.CredentialsSecretAccessKey} {
		if strings.TrimSpace(string(secret[key])) == "" {
			return key
		}
	}
	return ""
}
