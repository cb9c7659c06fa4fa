package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transparent-checkpoint/operator/storage"
)

// manifestOf wraps entries, which are JSON.
func manifestOf(entries string) string {
	return `{"format":"transparent-checkpoint/image","version":1,"chunkSize":10,"entries":[` + entries + `]}`
}

func TestHostileManifests(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("0a", 32)
	folder := `{"path":"a","kind":"directory","mode":"0700","size":0}`
	fileAt := func(path string) string { return `{"path":"` + path + `","kind":"file","mode":"0600","size":0}` }
	sized := func(size, chunks string) string {
		return manifestOf(`{"path":"a","kind":"file","mode":"0600","size":` + size + `,"chunks":[` + chunks + `]}`)
	}
	for name, test := range map[string]struct {
		data string
		want string // in the error; empty: it is fine
	}{
		"no entry":                            {data: manifestOf("")},
		"a file in a directory":               {data: manifestOf(folder + "," + fileAt("a/b"))},
		"a file of two chunks":                {data: sized("11", `"`+digest+`",""`)},
		"a compressed chunk":                  {data: sized("1", `"`+digest+`.s2"`)},
		"a chunk compressed in another way":   {data: sized("1", `"`+digest+`.gz"`), want: "64 hexadecimal digits"},
		"nothing":                             {data: "", want: "EOF"},
		"no JSON":                             {data: "\x00\x01", want: "invalid character"},
		"half of it":                          {data: manifestOf("")[:50], want: "unexpected EOF"},
		"something behind it":                 {data: manifestOf("") + "{}", want: "goes on after its end"},
		"a field that nobody knows":           {data: manifestOf(`{"path":"a","link":"/etc/passwd"}`), want: `unknown field "link"`},
		"another version":                     {data: strings.Replace(manifestOf(""), `:1,`, `:2,`, 1), want: "version 2"},
		"another format":                      {data: `{"format":"tar","version":1}`, want: `format is "tar"`},
		"chunks of no size":                   {data: strings.Replace(manifestOf(""), `:10,`, `:0,`, 1), want: "chunkSize is 0 bytes"},
		"chunks of a negative size":           {data: strings.Replace(manifestOf(""), `:10,`, `:-1,`, 1), want: "chunkSize is -1 bytes"},
		"chunks that memory cannot hold":      {data: strings.Replace(manifestOf(""), `:10,`, `:1000000000000,`, 1), want: "chunkSize is 1000000000000 bytes"},
		"a size beyond numbers":               {data: sized("99999999999999999999", ""), want: "cannot unmarshal number"},
		"a path that leads up":                {data: manifestOf(fileAt("../a")), want: `element ".."`},
		"a path that leads up in between":     {data: manifestOf(folder + "," + fileAt("a/../../b")), want: `element ".."`},
		"a path from the root on":             {data: manifestOf(fileAt("/etc/passwd")), want: `path is "/etc/passwd"`},
		"a path with a backslash":             {data: manifestOf(fileAt(`..\\a`)), want: "backslashes"},
		"a path with a zero":                  {data: manifestOf(fileAt(`a\u0000b`)), want: "control characters"},
		"the top itself":                      {data: manifestOf(fileAt(".")), want: `element "."`},
		"no path":                             {data: manifestOf(fileAt("")), want: `path is ""`},
		"a path that is too long":             {data: manifestOf(fileAt(strings.Repeat("a", 256))), want: "255"},
		"a path twice":                        {data: manifestOf(fileAt("a") + "," + fileAt("a")), want: `"a" comes twice`},
		"a directory twice":                   {data: manifestOf(folder + "," + folder), want: `"a" comes twice`},
		"a file in a file":                    {data: manifestOf(fileAt("a") + "," + fileAt("a/b")), want: "without its directory"},
		"a file before its directory":         {data: manifestOf(fileAt("a/b") + "," + folder), want: "without its directory"},
		"a note of the agent":                 {data: manifestOf(fileAt("agent.json")), want: "agent's own notes"},
		"a kind that nobody knows":            {data: manifestOf(`{"path":"a","kind":"symlink","mode":"0777"}`), want: `kind is "symlink"`},
		"no kind":                             {data: manifestOf(`{"path":"a","mode":"0777"}`), want: `kind is ""`},
		"a mode with more than permissions":   {data: manifestOf(`{"path":"a","kind":"file","mode":"4755"}`), want: `mode is "4755"`},
		"a mode with a sign":                  {data: manifestOf(`{"path":"a","kind":"file","mode":"-755"}`), want: `mode is "-755"`},
		"a mode that is short":                {data: manifestOf(`{"path":"a","kind":"file","mode":"755"}`), want: `mode is "755"`},
		"a directory with a size":             {data: manifestOf(`{"path":"a","kind":"directory","mode":"0700","size":1}`), want: "neither size nor chunks"},
		"a directory with a chunk":            {data: manifestOf(`{"path":"a","kind":"directory","mode":"0700","chunks":[""]}`), want: "neither size nor chunks"},
		"a negative size":                     {data: sized("-1", ""), want: "size is -1 bytes"},
		"a size that is too large":            {data: sized("17592186044417", ""), want: "size is 17592186044417 bytes"},
		"too few chunks":                      {data: sized("21", `"",""`), want: "2 chunks; for 21 bytes it may have 3"},
		"too many chunks":                     {data: sized("10", `"",""`), want: "2 chunks; for 10 bytes it may have 1"},
		"a chunk of a file without size":      {data: sized("0", `""`), want: "1 chunks; for 0 bytes it may have 0"},
		"a chunk that is a path":              {data: sized("1", `"../../../manifest.json"`), want: `chunk is "../../../manifest.json"`},
		"a chunk that is a path of 64 places": {data: sized("1", `"`+strings.Repeat("../", 21)+`a"`), want: "64 hexadecimal digits"},
		"a chunk in capital letters":          {data: sized("1", `"`+strings.Repeat("0A", 32)+`"`), want: "64 hexadecimal digits"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseManifest([]byte(test.data))
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("have the error %v, want %v with %q", err, storage.ErrCorrupt, test.want)
			}
			// And as the checkpoint whose digest somebody has written down.
			store, to := openStore(t), filepath.Join(t.TempDir(), "in", "to")
			if err := store.Put(t.Context(), testPrefix+"/manifest.json", storage.Bytes([]byte(test.data)), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := Fetch(t.Context(), store, testPrefix, digestOf([]byte(test.data)), to, small); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("fetch: have the error %v, want %v", err, storage.ErrCorrupt)
			}
			expectNothing(t, to+PartialSuffix)
		})
	}
}

func TestAManifestThatIsTooLargeIsNotReadOn(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	data := make([]byte, maxManifestSize+1)
	if err := store.Put(t.Context(), testPrefix+"/manifest.json", storage.Bytes(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := Fetch(t.Context(), store, testPrefix, digestOf(data), filepath.Join(t.TempDir(), "to"), small)
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("have the error %v, want %v", err, storage.ErrCorrupt)
	}
}

func TestADigestThatIsNone(t *testing.T) {
	t.Parallel()
	for _, digest := range []string{"", "sha256:", strings.Repeat("0a", 32), "sha512:" + strings.Repeat("0a", 32), "sha256:" + strings.Repeat("0g", 32)} {
		_, err := Fetch(t.Context(), openStore(t), testPrefix, digest, filepath.Join(t.TempDir(), "to"), small)
		if !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("%q: have the error %v, want %v", digest, err, storage.ErrInvalid)
		}
	}
}

// FuzzParseManifest looks for a manifest that is accepted and yet leads out of the directory, or cannot be written as it is.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestOf("")))
	f.Add([]byte(manifestOf(`{"path":"a","kind":"directory","mode":"0700","size":0},{"path":"a/b","kind":"file","mode":"0644","size":11,"chunks":["","` +
		strings.Repeat("0a", 32) + `"]}`)))
	f.Add([]byte(manifestOf(`{"path":"../a","kind":"file","mode":"0600","size":9223372036854775807,"chunks":[]}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("the error %v is not %v", err, storage.ErrCorrupt)
			}
			return
		}
		for i := range m.Entries {
			e := &m.Entries[i]
			covered := int64(0)
			for chunk := range e.Chunks {
				length := e.chunkLength(chunk, m.ChunkSize)
				if length < 1 || length > m.ChunkSize {
					t.Errorf("%q: chunk %d has %d bytes", e.Path, chunk, length)
				}
				covered += length
			}
			if covered != e.Size || !filepath.IsLocal(e.Path) || e.perm() != e.perm()&os.ModePerm {
				t.Errorf("%+v is accepted", e)
			}
		}
		again, _, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		second, err := parseManifest(again)
		if err != nil {
			t.Fatalf("its own encoding is refused: %v", err)
		}
		if diff := cmp.Diff(m, second, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("its own encoding (-first +second):\n%s", diff)
		}
	})
}
