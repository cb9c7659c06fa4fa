package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

// Run tests that the stores which open returns keep the contract of storage.Store. Each call of open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, storage.Store){
		"a body comes back as it was put":              testRoundTrip,
		"a put replaces what was there":                testReplace,
		"a put if absent never replaces":               testIfAbsent,
		"one of many puts if absent is kept":           testIfAbsentRace,
		"a body that cannot be read stores nothing":    testBrokenBody,
		"a range of an object can be read":             testRanges,
		"what is not there is named as such":           testMissing,
		"keys that are none are refused":               testKeys,
		"nothing is done after the context has ended":  testContext,
		"many goroutines may use a store":              testConcurrent,
		"lists are sorted and bounded":                 testList,
		"lists go on behind one page":                  testListPages,
		"an upload becomes an object":                  testUpload,
		"an upload of another process can be gone on":  testUploadResumed,
		"a part can be put again":                      testPartAgain,
		"an upload that was ended is gone":             testUploadEnded,
		"parts that are not those of the upload fail":  testUploadWrongParts,
		"an upload replaces what was there at its end": testUploadReplaces,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// noise returns n bytes that are the same for the same seed and not compressible.
func noise(seed uint64, n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	if _, err := source.Read(data); err != nil {
		panic(err) // it never fails, by its documentation
	}
	return data
}

func put(t *testing.T, store storage.Store, key string, data []byte) {
	t.Helper()
	if err := store.Put(t.Context(), key, storage.Bytes(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// expect compares an object with what it should be.
func expect(t *testing.T, store storage.Store, key string, want []byte) {
	t.Helper()
	expectRange(t, store, key, storage.Range{}, want)
}

func expectRange(t *testing.T, store storage.Store, key string, r storage.Range, want []byte) {
	t.Helper()
	got, err := read(t, store, key, r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Fatalf("object %q, %+v: have %d bytes %.50q, want %d bytes %.50q", key, r, len(got), got, len(want), want)
	}
}

func read(t *testing.T, store storage.Store, key string, r storage.Range) ([]byte, error) {
	t.Helper()
	reader, err := store.Get(t.Context(), key, r)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(reader)
	return data, errors.Join(err, reader.Close())
}

// expectError tests that err is want.
func expectError(t *testing.T, call string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: have the error %v, want %v", call, err, want)
	}
}

// keys returns the keys of a list, and its error.
func keys(t *testing.T, store storage.Store, prefix, after string) ([]string, error) {
	t.Helper()
	var all []string
	for info, err := range store.List(t.Context(), prefix, after) {
		if err != nil {
			return all, err
		}
		all = append(all, info.Key)
	}
	return all, nil
}

// expectKeys compares the keys of a list.
func expectKeys(t *testing.T, store storage.Store, prefix, after string, want []string) {
	t.Helper()
	got, err := keys(t, store, prefix, after)
	if err != nil {
		t.Fatal(err)
	}
	same(t, fmt.Sprintf("keys with prefix %q after %q", prefix, after), want, got)
}

// same compares two values. go-cmp, which would show the difference, is for files that are only compiled for tests.
func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Errorf("%s:\nhave %+v\nwant %+v", what, got, want)
	}
}
