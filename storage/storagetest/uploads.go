package storagetest

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

func begin(t *testing.T, store storage.Store, key string) storage.Upload {
	t.Helper()
	upload, err := store.Begin(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Check(); err != nil || upload.Key != key {
		t.Fatalf("begin %q: have %+v (%v), want a complete upload of that key", key, upload, err)
	}
	return upload
}

func putPart(t *testing.T, store storage.Store, upload storage.Upload, number int, data []byte) storage.Part {
	t.Helper()
	part, err := store.PutPart(t.Context(), upload, number, storage.Section(bytes.NewReader(data), 0, int64(len(data))))
	if err != nil {
		t.Fatal(err)
	}
	if part.Number != number || part.Size != int64(len(data)) || part.Tag == "" {
		t.Fatalf("put part %d of %d bytes: have %+v", number, len(data), part)
	}
	return part
}

func expectParts(t *testing.T, store storage.Store, upload storage.Upload, want []storage.Part) {
	t.Helper()
	got, err := store.Parts(t.Context(), upload)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "parts", want, got)
}

func complete(t *testing.T, store storage.Store, upload storage.Upload, parts ...storage.Part) {
	t.Helper()
	if err := store.Complete(t.Context(), upload, parts); err != nil {
		t.Fatal(err)
	}
}

func testUpload(t *testing.T, store storage.Store) {
	one, two, three := noise(1, storage.MinPartSize), noise(2, storage.MinPartSize+1), noise(3, 10)
	upload := begin(t, store, "in/parts")
	expectParts(t, store, upload, nil)
	third := putPart(t, store, upload, 7, three)
	first := putPart(t, store, upload, 1, one)
	second := putPart(t, store, upload, 2, two)
	expectParts(t, store, upload, []storage.Part{first, second, third})

	_, err := store.Stat(t.Context(), "in/parts")
	expectError(t, "stat before the end", err, storage.ErrNotExist)
	expectKeys(t, store, "", "", nil)

	complete(t, store, upload, first, second, third)
	expect(t, store, "in/parts", slices.Concat(one, two, three))
	expectKeys(t, store, "", "", []string{"in/parts"})
}

func testUploadResumed(t *testing.T, store storage.Store) {
	one, two := noise(1, storage.MinPartSize), noise(2, 10)
	upload := begin(t, store, "resumed")
	putPart(t, store, upload, 1, one)
	saved, err := json.Marshal(upload)
	if err != nil {
		t.Fatal(err)
	}

	var again storage.Upload
	if err := json.Unmarshal(saved, &again); err != nil {
		t.Fatal(err)
	}
	parts, err := store.Parts(t.Context(), again)
	if err != nil || len(parts) != 1 {
		t.Fatalf("parts: have %+v (%v), want the one that was put", parts, err)
	}
	complete(t, store, again, parts[0], putPart(t, store, again, 2, two))
	expect(t, store, "resumed", slices.Concat(one, two))
}

func testPartAgain(t *testing.T, store storage.Store) {
	upload := begin(t, store, "again")
	old := putPart(t, store, upload, 1, noise(1, 100))
	part := putPart(t, store, upload, 1, noise(2, 200))
	if old.Tag == part.Tag {
		t.Errorf("tag %q is that of two contents", part.Tag)
	}
	part = putPart(t, store, upload, 1, noise(2, 200)) // a server that encrypts gives the same content another tag
	expectParts(t, store, upload, []storage.Part{part})
	complete(t, store, upload, part)
	expect(t, store, "again", noise(2, 200))
}

func testUploadEnded(t *testing.T, store storage.Store) {
	completed := begin(t, store, "completed")
	part := putPart(t, store, completed, 1, []byte("x"))
	complete(t, store, completed, part)
	aborted := begin(t, store, "aborted")
	putPart(t, store, aborted, 1, []byte("x"))
	if err := store.Abort(t.Context(), aborted); err != nil {
		t.Fatal(err)
	}
	for name, upload := range map[string]storage.Upload{"completed": completed, "aborted": aborted} {
		t.Run(name, func(t *testing.T) {
			_, err := store.PutPart(t.Context(), upload, 2, storage.Bytes([]byte("y")))
			expectError(t, "put part", err, storage.ErrNotExist)
			_, err = store.Parts(t.Context(), upload)
			expectError(t, "parts", err, storage.ErrNotExist)
			expectError(t, "complete", store.Complete(t.Context(), upload, []storage.Part{part}), storage.ErrNotExist)
			expectError(t, "abort", store.Abort(t.Context(), upload), nil)
		})
	}
	expectKeys(t, store, "", "", []string{"completed"})
}

func testUploadWrongParts(t *testing.T, store storage.Store) {
	upload := begin(t, store, "wrong")
	small := putPart(t, store, upload, 1, []byte("small"))
	last := putPart(t, store, upload, 2, []byte("last"))
	tests := map[string][]storage.Part{
		"no part":                   nil,
		"a part that was never put": {{Number: 3, Size: 4, Tag: last.Tag}},
		"a part of another content": {{Number: 2, Size: 5, Tag: small.Tag}},
		"a small part before":       {small, last},
		"a tag that is a path":      {{Number: 1, Size: 5, Tag: "../../../etc/passwd"}},
	}
	for name, parts := range tests {
		t.Run(name, func(t *testing.T) {
			expectError(t, "complete", store.Complete(t.Context(), upload, parts), storage.ErrInvalid)
		})
	}
	for name, test := range map[string]struct {
		number int
		body   storage.Body
	}{
		"part 0":                 {body: storage.Bytes(nil)},
		"part 10001":             {number: 10001, body: storage.Bytes(nil)},
		"a part of unknown size": {number: 3, body: storage.Once(bytes.NewReader(nil), storage.SizeUnknown)},
		"a part that is short":   {number: 3, body: storage.Once(bytes.NewReader([]byte("x")), 2)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.PutPart(t.Context(), upload, test.number, test.body)
			expectError(t, "put part", err, storage.ErrInvalid)
		})
	}
	expectParts(t, store, upload, []storage.Part{small, last})
}

func testUploadReplaces(t *testing.T, store storage.Store) {
	put(t, store, "key", []byte("before"))
	upload := begin(t, store, "key")
	part := putPart(t, store, upload, 1, []byte("after"))
	expect(t, store, "key", []byte("before"))
	complete(t, store, upload, part)
	expect(t, store, "key", []byte("after"))
}
