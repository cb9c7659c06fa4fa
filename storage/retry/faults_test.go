package retry_test

import (
	"math/rand/v2"
	"strconv"
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
	faulty := func(store storage.Store, seed int) storage.Store {
		inner := storagetest.NewFaulty(store, rand.New(rand.NewPCG(uint64(seed), 0)), 3, storagetest.Passing...)
		return retry.New(inner, retry.Options{FirstWait: time.Microsecond, LongestWait: time.Microsecond})
	}
	t.Run("filesystem", func(t *testing.T) {
		t.Parallel()
		seed := 0
		storagetest.Run(t, func(t *testing.T) storage.Store {
			seed++
			return faulty(open(t), seed)
		})
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		server := storagetest.StartMinIO(t)
		server.MakeBucket(t, "bucket")
		seed := 0
		storagetest.Run(t, func(t *testing.T) storage.Store {
			seed++
			store, err := s3.New(s3.Options{
				Endpoint: server.URL(), Bucket: "bucket", Prefix: strconv.Itoa(seed), PathStyle: true, PartSize: storage.MinPartSize,
				Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
			})
			if err != nil {
				t.Fatal(err)
			}
			return faulty(store, seed)
		})
	})
}
