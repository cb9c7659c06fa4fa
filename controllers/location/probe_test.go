package location

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/storage"
)

// shelf is a store in memory that fails where it is told to.
type shelf struct {
	storage.Store
	mu                     sync.Mutex
	objects                map[string][]byte
	put, get, delete, list error
	spoiled                bool
}

func (s *shelf) Put(_ context.Context, key string, body storage.Body, _ storage.PutOptions) error {
	if s.put != nil {
		return s.put
	}
	r, err := body.Reader()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = data
	return errors.Join(err, r.Close())
}

func (s *shelf) Get(_ context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, there := s.objects[key]
	if s.get != nil || !there {
		return nil, cmp.Or(s.get, storage.ErrNotExist)
	}
	if s.spoiled {
		data = bytes.ToUpper(data)
	}
	data = data[r.Offset:]
	if r.Length > 0 {
		data = data[:min(r.Length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *shelf) Stat(_ context.Context, key string) (storage.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, there := s.objects[key]
	if s.get != nil || !there {
		return storage.Info{}, cmp.Or(s.get, storage.ErrNotExist)
	}
	return storage.Info{Key: key, Size: int64(len(data))}, nil
}

// List fails at its end.
func (s *shelf) List(_ context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := maps.Clone(s.objects)
	return func(yield func(storage.Info, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if strings.HasPrefix(key, prefix) && key > after && !yield(storage.Info{Key: key, Size: int64(len(objects[key]))}, nil) {
				return
			}
		}
		if s.list != nil {
			yield(storage.Info{}, s.list)
		}
	}
}

func (s *shelf) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return s.delete
}

func TestProbe(t *testing.T) {
	wrapped := func(err error) error { return fmt.Errorf("the server: %w", err) }
	for name, test := range map[string]struct {
		store *shelf
		want  string // the reason; empty is none
	}{
		"all is well":                {&shelf{}, ""},
		"no bucket":                  {&shelf{put: wrapped(storage.ErrNoBucket)}, v1alpha1.LocationBucketNotFound},
		"may not write":              {&shelf{put: wrapped(storage.ErrAccessDenied)}, v1alpha1.LocationAccessDenied},
		"may not read":               {&shelf{get: wrapped(storage.ErrAccessDenied)}, v1alpha1.LocationAccessDenied},
		"may not delete":             {&shelf{delete: wrapped(storage.ErrAccessDenied)}, v1alpha1.LocationAccessDenied},
		"encrypts otherwise":         {&shelf{put: wrapped(storage.ErrEncryption)}, v1alpha1.LocationEncryptionRefused},
		"no answer":                  {&shelf{put: wrapped(storage.ErrUnavailable)}, v1alpha1.LocationUnreachable},
		"something else was read":    {&shelf{spoiled: true}, v1alpha1.LocationUnreachable},
		"a full bucket":              {&shelf{put: wrapped(storage.ErrNoSpace)}, v1alpha1.LocationBucketFull},
		"another region":             {&shelf{put: wrapped(storage.ErrWrongRegion)}, v1alpha1.LocationWrongRegion},
		"a clock that is wrong":      {&shelf{put: wrapped(storage.ErrClockSkew)}, v1alpha1.LocationClockSkew},
		"the answer took too long":   {&shelf{put: context.DeadlineExceeded}, v1alpha1.LocationUnreachable},
		"read fails, delete as well": {&shelf{get: wrapped(storage.ErrUnavailable), delete: wrapped(storage.ErrUnavailable)}, v1alpha1.LocationUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			test.store.objects = map[string][]byte{}
			err := probe(t.Context(), test.store, "name")
			if reason := reasonIn(err); reason != test.want {
				t.Errorf("the reason is %q, as it says %v", reason, err)
			}
			if len(test.store.objects) != 0 {
				t.Errorf("it left %v", test.store.objects)
			}
		})
	}
}

func TestABucketThatIsOnlyReadIsNotWrittenTo(t *testing.T) {
	refuses := &shelf{objects: map[string][]byte{}, put: storage.ErrAccessDenied, delete: storage.ErrAccessDenied}
	if err := probeReading(t.Context(), refuses); err != nil {
		t.Errorf("it says %v", err)
	}
	refuses.list = storage.ErrNoBucket
	if err := probeReading(t.Context(), refuses); reasonIn(err) != v1alpha1.LocationBucketNotFound {
		t.Errorf("without the bucket it says %v", err)
	}
}

// reasonIn is the reason for an error, and none without one.
func reasonIn(err error) string {
	if err == nil {
		return ""
	}
	reason, _ := reasonOf(err)
	return reason
}

func TestAReasonComesWithWhatToDo(t *testing.T) {
	for _, r := range reasons {
		_, message := reasonOf(fmt.Errorf("write an object: %w", r.err))
		if want := "write an object: " + r.err.Error() + ". " + storage.Advice(r.err); message != want || storage.Advice(r.err) == "" {
			t.Errorf("%s says %q", r.reason, message)
		}
	}
}

func TestMissingKey(t *testing.T) {
	for name, test := range map[string]struct {
		secret map[string][]byte
		want   string
	}{
		"both are there": {map[string][]byte{"accessKeyID": []byte("a"), "secretAccessKey": []byte("b")}, ""},
		"an empty one":   {map[string][]byte{"accessKeyID": []byte("a"), "secretAccessKey": nil}, "secretAccessKey"},
		"none":           {nil, "accessKeyID"},
	} {
		if got := missingKey(test.secret); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
