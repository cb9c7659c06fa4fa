package inspection

import (
	"bytes"
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// shelf is a store, of which only what an image needs is there.
type shelf struct {
	storage.Store
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data []byte
	put  int // the number of the put, by which it is younger than others
}

func (s *shelf) info(key string) storage.Info {
	o := s.objects[key]
	return storage.Info{Key: key, Size: int64(len(o.data)), Modified: time.Unix(int64(o.put), 0)}
}

func (s *shelf) Put(_ context.Context, key string, body storage.Body, _ storage.PutOptions) error {
	from, err := body.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	data, err := io.ReadAll(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = object{data, len(s.objects)}
	return err
}

func (s *shelf) Get(_ context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, is := s.objects[key]
	if !is {
		return nil, storage.ErrNotExist
	}
	data := o.data[r.Offset:]
	if r.Length > 0 && r.Length < int64(len(data)) {
		data = data[:r.Length]
	}
	return io.NopCloser(bytes.NewReader(slices.Clone(data))), nil
}

func (s *shelf) Stat(_ context.Context, key string) (storage.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, is := s.objects[key]; !is {
		return storage.Info{}, storage.ErrNotExist
	}
	return s.info(key), nil
}

func (s *shelf) List(_ context.Context, prefix, _ string) iter.Seq2[storage.Info, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []storage.Info
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if strings.HasPrefix(key, prefix) {
			found = append(found, s.info(key))
		}
	}
	return func(yield func(storage.Info, error) bool) {
		for _, info := range found {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *shelf) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}
