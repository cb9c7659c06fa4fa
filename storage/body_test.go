package storage_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
)

func TestBodyKeepsItsSize(t *testing.T) {
	t.Parallel()
	section := func(size int64) storage.Body { return storage.Section(strings.NewReader("0123456789"), 2, size) }
	limited := func(text string, limit int64) storage.Body {
		body := storage.Once(strings.NewReader(text), storage.SizeUnknown)
		body.Max = limit
		return body
	}
	tests := map[string]struct {
		body storage.Body
		want string
		err  string
	}{
		"bytes are read whole":                   {body: storage.Bytes([]byte("abc")), want: "abc"},
		"no bytes are a body":                    {body: storage.Bytes(nil)},
		"a section is read from its offset":      {body: section(3), want: "234"},
		"a section behind the end is too short":  {body: section(9), want: "", err: "body ends after 8 bytes; it has to have 9: invalid"},
		"a reader is read to its end":            {body: storage.Once(strings.NewReader("abc"), storage.SizeUnknown), want: "abc"},
		"a reader that is too long is refused":   {body: storage.Once(strings.NewReader("abcd"), 3), err: "body goes on after 3 bytes; it may have no more: invalid"},
		"a reader that is too short is refused":  {body: storage.Once(strings.NewReader("ab"), 3), err: "body ends after 2 bytes; it has to have 3: invalid"},
		"a reader may be as long as its maximum": {body: limited("abc", 3), want: "abc"},
		"a reader may stay below its maximum":    {body: limited("ab", 3), want: "ab"},
		"a reader may not exceed its maximum":    {body: limited("abcd", 3), err: "body goes on after 3 bytes; it may have no more: invalid"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := test.body.Reader()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			data, err := io.ReadAll(r)
			compareError(t, test.err, err)
			if err == nil {
				if diff := cmp.Diff(test.want, string(data)); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
			}
			compareError(t, test.err, r.Err())
		})
	}
}

func TestBodyReaderIsAReader(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]storage.Body{
		"known size":   storage.Once(iotest.HalfReader(strings.NewReader("0123456789")), 10),
		"unknown size": storage.Once(iotest.DataErrReader(strings.NewReader("0123456789")), storage.SizeUnknown),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := body.Reader()
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(r, []byte("0123456789")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBodyThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	r, err := storage.Once(iotest.ErrReader(broken), storage.SizeUnknown).Reader()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) {
		t.Errorf("read: %v, want %v", err, broken)
	}
	if !errors.Is(r.Err(), broken) {
		t.Errorf("Err: %v, want %v", r.Err(), broken)
	}
}

func TestBodyOnce(t *testing.T) {
	t.Parallel()
	body := storage.Once(strings.NewReader("abc"), 3)
	if body.Repeatable() {
		t.Error("a body that can be read once says that it is repeatable")
	}
	if _, err := body.Reader(); err != nil {
		t.Fatal(err)
	}
	_, err := body.Reader()
	compareError(t, "open the body: read the body again: it can be read only once: invalid", err)
	if !storage.Bytes(nil).Repeatable() {
		t.Error("bytes say that they are not repeatable")
	}
}

func TestBodyWithoutSense(t *testing.T) {
	t.Parallel()
	_, err := storage.Body{Size: 3}.Reader()
	compareError(t, "body has no Open: invalid", err)
	_, err = storage.Once(strings.NewReader(""), -2).Reader()
	compareError(t, "size of the body is -2 bytes, at most 0; it may be -1 (unknown) or more, at most 0 (unknown) or more: invalid", err)
}
