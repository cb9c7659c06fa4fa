package retry_test

import (
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

// TestConformanceBehindFaults has both adapters fail in all ways that pass: whoever uses the store above sees nothing of that.
func TestConformanceBehindFaults(t *testing.T) {
	t.Parallel()
	t.Run("filesystem", func(t *testing.T) {
		t.Parallel()
		storagetest.Run(t, func(t *testing.T) storage.Store { return behindFaults(t, open(t)) })
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		server := storagetest.StartMinIO(t)
		server.MakeBucket(t, "bucket")
		storagetest.Run(t, func(t *testing.T) storage.Store {
			store, err := s3.New(s3.Options{
				Endpoint: server.URL(), Bucket: "bucket", Prefix: t.Name(), PathStyle: true, PartSize: storage.MinPartSize,
				Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
			})
			if err != nil {
				t.Fatal(err)
			}
			return behindFaults(t, store)
		})
	})
}

// behindFaults has one call of three fail, the same ones each time that a test does the same.
func behindFaults(t *testing.T, store storage.Store) storage.Store {
	t.Helper()
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(t.Name())) // it never fails
	inner := storagetest.NewFaulty(store, rand.New(rand.NewPCG(seed.Sum64(), 0)), 3, storagetest.Passing...)
	return retry.New(inner, retry.Options{FirstWait: time.Microsecond, LongestWait: time.Microsecond})
}
