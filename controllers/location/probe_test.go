package location

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/storage"
)

// shelf is a store that fails where it is told to; only what a probe calls is there.
type shelf struct {
	storage.Store
	objects          map[string][]byte
	put, get, delete error
	spoiled          bool
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
	s.objects[key] = data
	return err
}

func (s *shelf) Get(_ context.Context, key string, _ storage.Range) (io.ReadCloser, error) {
	if s.get != nil {
		return nil, s.get
	}
	text := string(s.objects[key])
	if s.spoiled {
		text = strings.ToUpper(text)
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (s *shelf) Delete(_ context.Context, key string) error {
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

func (s *shelf) List(context.Context, string, string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if s.get != nil {
			yield(storage.Info{}, s.get)
		}
	}
}

func TestABucketThatIsOnlyReadIsNotWrittenTo(t *testing.T) {
	refuses := &shelf{objects: map[string][]byte{}, put: storage.ErrAccessDenied, delete: storage.ErrAccessDenied}
	if err := probeReading(t.Context(), refuses); err != nil {
		t.Errorf("it says %v", err)
	}
	refuses.get = storage.ErrNoBucket
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
