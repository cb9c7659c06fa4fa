package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

func testRoundTrip(t *testing.T, store storage.Store) {
	sizes := map[string]int{
		"empty": 0, "byte": 1, "small": 1000, "as large as a part": storage.MinPartSize, "larger by a byte": storage.MinPartSize + 1, "large": 12<<20 + 345,
	}
	for name, size := range sizes {
		want := noise(uint64(size), size)
		bounded := storage.Once(bytes.NewReader(want), storage.SizeUnknown)
		bounded.Max = int64(size) + 100
		bodies := map[string]storage.Body{
			"bytes":                 storage.Bytes(want),
			"section":               storage.Section(bytes.NewReader(want), 0, int64(size)),
			"stream of known size":  storage.Once(iotest.HalfReader(bytes.NewReader(want)), int64(size)),
			"stream":                storage.Once(iotest.DataErrReader(bytes.NewReader(want)), storage.SizeUnknown),
			"stream with a maximum": bounded,
		}
		for kind, body := range bodies {
			t.Run(name+", "+kind, func(t *testing.T) {
				key := "round trip/" + name + "/" + kind
				before := time.Now().Add(-time.Minute)
				if err := store.Put(t.Context(), key, body, storage.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				expect(t, store, key, want)
				info, err := store.Stat(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				if info.Modified.Before(before) || info.Modified.After(time.Now().Add(time.Minute)) {
					t.Errorf("modified at %v, which is not now", info.Modified)
				}
				info.Modified = time.Time{}
				same(t, "info", storage.Info{Key: key, Size: int64(size)}, info)
			})
		}
	}
}

func testReplace(t *testing.T, store storage.Store) {
	put(t, store, "a/key", []byte("the first content, which is longer"))
	put(t, store, "a/key", []byte("the second"))
	expect(t, store, "a/key", []byte("the second"))
}

func testIfAbsent(t *testing.T, store storage.Store) {
	for name, size := range map[string]int{"small": 10, "large": 12 << 20} {
		first, second := noise(1, size), noise(2, size)
		bodies := map[string]storage.Body{
			"bytes": storage.Bytes(second), "stream": storage.Once(bytes.NewReader(second), storage.SizeUnknown),
		}
		for kind, body := range bodies {
			key := name + "/" + kind
			if err := store.Put(t.Context(), key, storage.Bytes(first), storage.PutOptions{IfAbsent: true}); err != nil {
				t.Fatalf("put %q, which is absent: %v", key, err)
			}
			expectError(t, "put "+key+" again", store.Put(t.Context(), key, body, storage.PutOptions{IfAbsent: true}), storage.ErrExist)
			expect(t, store, key, first)
		}
	}
}

func testIfAbsentRace(t *testing.T, store storage.Store) {
	const racers = 8
	errs := make([]error, racers)
	var group sync.WaitGroup
	for i := range racers {
		group.Go(func() {
			errs[i] = store.Put(t.Context(), "prize", storage.Bytes(noise(uint64(i), 1000)), storage.PutOptions{IfAbsent: true})
		})
	}
	group.Wait()
	got, err := read(t, store, "prize", storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	won := false
	for i, err := range errs {
		if err != nil {
			expectError(t, fmt.Sprintf("put %d", i), err, storage.ErrExist)
			continue
		}
		won = won || bytes.Equal(got, noise(uint64(i), 1000))
	}
	if !won {
		t.Errorf("the object is not that of a put that succeeded; errors of the puts: %v", errs)
	}
}

func testBrokenBody(t *testing.T, store storage.Store) {
	broken := errors.New("the disk is broken")
	part := noise(3, storage.MinPartSize)
	failing := func() io.Reader {
		return io.MultiReader(bytes.NewReader(part), bytes.NewReader(part), iotest.ErrReader(broken))
	}
	tests := map[string]struct {
		body storage.Body
		want error
	}{
		"too short":                   {body: storage.Once(strings.NewReader("abc"), 4), want: storage.ErrInvalid},
		"too long":                    {body: storage.Once(strings.NewReader("abcde"), 4), want: storage.ErrInvalid},
		"empty, but should not be":    {body: storage.Once(strings.NewReader(""), 4), want: storage.ErrInvalid},
		"not empty, but should be":    {body: storage.Once(strings.NewReader("a"), 0), want: storage.ErrInvalid},
		"broken at once":              {body: storage.Once(iotest.ErrReader(broken), 4), want: broken},
		"broken later":                {body: storage.Once(failing(), 4*storage.MinPartSize), want: broken},
		"broken later, unknown size":  {body: storage.Once(failing(), storage.SizeUnknown), want: broken},
		"too short by parts":          {body: storage.Once(bytes.NewReader(noise(3, 11<<20)), 12<<20), want: storage.ErrInvalid},
		"too long by parts":           {body: storage.Once(bytes.NewReader(noise(3, 13<<20)), 12<<20), want: storage.ErrInvalid},
		"it can be opened only once":  {body: opened(), want: storage.ErrInvalid},
		"it has a size that is wrong": {body: storage.Once(strings.NewReader(""), -7), want: storage.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := store.Put(t.Context(), "broken/"+name, test.body, storage.PutOptions{})
			expectError(t, "put", err, test.want)
			if errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("put: %v is ErrUnavailable, but the body is at fault", err)
			}
			_, err = store.Stat(t.Context(), "broken/"+name)
			expectError(t, "stat", err, storage.ErrNotExist)
		})
	}
}

// opened is a body that cannot be opened any more.
func opened() storage.Body {
	body := storage.Once(strings.NewReader("a"), 1)
	if _, err := body.Open(); err != nil {
		panic(err) // the first time it can
	}
	return body
}

func testRanges(t *testing.T, store storage.Store) {
	put(t, store, "digits", []byte("0123456789"))
	put(t, store, "nothing", nil)
	tests := map[string]struct {
		key  string
		r    storage.Range
		want string
		err  error
	}{
		"the zero range is all":              {key: "digits", want: "0123456789"},
		"the zero range of nothing is empty": {key: "nothing"},
		"the first byte":                     {key: "digits", r: storage.Range{Length: 1}, want: "0"},
		"the last byte":                      {key: "digits", r: storage.Range{Offset: 9, Length: 1}, want: "9"},
		"some within":                        {key: "digits", r: storage.Range{Offset: 3, Length: 4}, want: "3456"},
		"from an offset on":                  {key: "digits", r: storage.Range{Offset: 7}, want: "789"},
		"a range that reaches too far":       {key: "digits", r: storage.Range{Offset: 7, Length: 100}, want: "789"},
		"a range at the end":                 {key: "digits", r: storage.Range{Offset: 10}, err: storage.ErrInvalid},
		"a range behind the end":             {key: "digits", r: storage.Range{Offset: 11, Length: 1}, err: storage.ErrInvalid},
		"a negative offset":                  {key: "digits", r: storage.Range{Offset: -1}, err: storage.ErrInvalid},
		"a negative length":                  {key: "digits", r: storage.Range{Length: -1}, err: storage.ErrInvalid},
		"a range that overflows":             {key: "digits", r: storage.Range{Offset: 1, Length: 1<<63 - 1}, err: storage.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.err == nil {
				expectRange(t, store, test.key, test.r, []byte(test.want))
				return
			}
			_, err := read(t, store, test.key, test.r)
			expectError(t, "get", err, test.err)
		})
	}
}

func testMissing(t *testing.T, store storage.Store) {
	put(t, store, "there/it/is", []byte("x"))
	for name, key := range map[string]string{"nothing of it": "absent", "its folder": "there/it", "something longer": "there/it/isnot"} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, store, key, storage.Range{})
			expectError(t, "get", err, storage.ErrNotExist)
			_, err = store.Stat(t.Context(), key)
			expectError(t, "stat", err, storage.ErrNotExist)
			expectError(t, "delete", store.Delete(t.Context(), key), nil)
		})
	}
	expect(t, store, "there/it/is", []byte("x"))
	for range 2 {
		expectError(t, "delete", store.Delete(t.Context(), "there/it/is"), nil)
	}
	_, err := store.Stat(t.Context(), "there/it/is")
	expectError(t, "stat after delete", err, storage.ErrNotExist)
}

// calls returns all that a store can be asked about a key.
func calls(ctx context.Context, store storage.Store, key string) map[string]func() error {
	upload := storage.Upload{Key: key, ID: "some-id"}
	return map[string]func() error{
		"Put":      func() error { return store.Put(ctx, key, storage.Bytes([]byte("x")), storage.PutOptions{}) },
		"Get":      func() error { _, err := store.Get(ctx, key, storage.Range{}); return err }, // in vain, so there is nothing to close
		"Stat":     func() error { _, err := store.Stat(ctx, key); return err },
		"Delete":   func() error { return store.Delete(ctx, key) },
		"Begin":    func() error { _, err := store.Begin(ctx, key); return err },
		"PutPart":  func() error { _, err := store.PutPart(ctx, upload, 1, storage.Bytes([]byte("x"))); return err },
		"Parts":    func() error { _, err := store.Parts(ctx, upload); return err },
		"Complete": func() error { return store.Complete(ctx, upload, []storage.Part{{Number: 1, Size: 1, Tag: "x"}}) },
		"Abort":    func() error { return store.Abort(ctx, upload) },
		"List": func() error {
			for _, err := range store.List(ctx, key, "") {
				return err
			}
			return nil
		},
	}
}

func testKeys(t *testing.T, store storage.Store) {
	for _, key := range []string{"", "../escape", "a/../../escape", "/absolute", "a//b", `a\b`, "a\x00b", strings.Repeat("a/", 1000) + "a"} {
		for name, call := range calls(t.Context(), store, key) {
			if key == "" && name == "List" {
				continue // the prefix of all
			}
			expectError(t, fmt.Sprintf("%s of the key %q", name, key), call(), storage.ErrInvalid)
		}
	}
}

func testContext(t *testing.T, store storage.Store) {
	put(t, store, "key", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(ctx, store, "key") {
		err := call()
		expectError(t, name, err, context.Canceled)
		if errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: %v is ErrUnavailable, but it is the caller who gave up", name, err)
		}
	}
	expect(t, store, "key", []byte("x"))
}

func testConcurrent(t *testing.T, store storage.Store) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 10 {
				key, data := fmt.Sprintf("shared/%d/%d", i, j), noise(uint64(10*i+j), 2000)
				if err := store.Put(t.Context(), key, storage.Bytes(data), storage.PutOptions{}); err != nil {
					t.Error(err)
					return
				}
				got, err := read(t, store, key, storage.Range{})
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("get %q: have %d bytes and the error %v, want the %d that were put", key, len(got), err, len(data))
				}
				if err := store.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	expectKeys(t, store, "shared/", "", nil)
}
