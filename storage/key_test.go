package storage_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
)

func TestCheckKey(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		key  string
		want string
	}{
		"a single element is a key":               {key: "a"},
		"elements are parted by slashes":          {key: "ns/pod-0/manifest.json"},
		"dots inside an element are allowed":      {key: "a..b/...c"},
		"other scripts are allowed":               {key: "пример/例"},
		"the longest key is allowed":              {key: strings.Repeat("abcdefg/", 95) + "abcdefgh"},
		"nothing is refused":                      {key: "", want: `key is ""; it may not be empty, nor begin or end with "/", nor contain "//": invalid`},
		"a leading slash is refused":              {key: "/a", want: `key is "/a"; it may not be empty, nor begin or end with "/", nor contain "//": invalid`},
		"a trailing slash is refused":             {key: "a/", want: `key is "a/"; it may not be empty, nor begin or end with "/", nor contain "//": invalid`},
		"an empty element is refused":             {key: "a//b", want: `key is "a//b"; it may not be empty, nor begin or end with "/", nor contain "//": invalid`},
		"an element .. is refused":                {key: "a/../b", want: `key is "a/../b"; it may not have the element "..": invalid`},
		"an element . is refused":                 {key: "./b", want: `key is "./b"; it may not have the element ".": invalid`},
		"a key that is too long is refused":       {key: strings.Repeat("a/", 384) + "a", want: `key has 769 bytes; it may have 768: invalid`},
		"an element that is too long is refused":  {key: strings.Repeat("a", 256), want: `key has an element of 256 bytes; it may have 255: invalid`},
		"bytes that are not UTF-8 are refused":    {key: "a\xff", want: `key is "a\xff"; it may only be UTF-8: invalid`},
		"a NUL is refused":                        {key: "a\x00b", want: `key is "a\x00b"; it may not contain backslashes and control characters: invalid`},
		"a backslash, Windows' slash, is refused": {key: `a\..\b`, want: `key is "a\\..\\b"; it may not contain backslashes and control characters: invalid`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareError(t, test.want, storage.CheckKey("key", test.key))
		})
	}
}

func TestCheckPrefix(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prefix string
		want   string
	}{
		"nothing is the prefix of all":       {prefix: ""},
		"a folder is a prefix":               {prefix: "a/b/"},
		"the beginning of a name is one":     {prefix: "a/b"},
		"the beginning of a hidden name too": {prefix: "a/."},
		"a leading slash is refused":         {prefix: "/a", want: `prefix is "/a"; it may not be empty, nor begin or end with "/", nor contain "//": invalid`},
		"a folder .. is refused":             {prefix: "../a", want: `prefix is "../a"; it may not have the element "..": invalid`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareError(t, test.want, storage.CheckPrefix("prefix", test.prefix))
		})
	}
}

func TestCheckParts(t *testing.T) {
	t.Parallel()
	const enough = storage.MinPartSize
	tests := map[string]struct {
		parts []storage.Part
		want  string
	}{
		"the last part may be small": {parts: []storage.Part{{Number: 1, Size: enough}, {Number: 7, Size: 1}}},
		"no part is refused":         {want: "list of parts is empty; it may have 1 to 10000: invalid"},
		"a small part within is refused": {
			parts: []storage.Part{{Number: 1, Size: 1}, {Number: 2, Size: 1}},
			want:  "size of part 1 is 1 bytes; all but the last may have 5242880 or more: invalid",
		},
		"a descending part is refused": {
			parts: []storage.Part{{Number: 2, Size: enough}, {Number: 1, Size: 1}},
			want:  "part 1 comes after part 2; parts may only ascend: invalid",
		},
		"a part 0 is refused":        {parts: []storage.Part{{Number: 0, Size: 1}}, want: "number of the part is 0; it may be 1 to 10000: invalid"},
		"a negative size is refused": {parts: []storage.Part{{Number: 1, Size: -1}}, want: "size of part 1 is -1 bytes; it may be 0 to 5368709120: invalid"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareError(t, test.want, storage.CheckParts(test.parts))
		})
	}
}

// compareError compares an error with its wanted text, "" for none, and expects it to be ErrInvalid.
func compareError(t *testing.T, want string, err error) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if err != nil && !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("%v is not ErrInvalid", err)
	}
}
