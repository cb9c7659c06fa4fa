package image

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

// TestAHostileManifestIsRefused before anything is made of it. Its digest would be right: who can write to a bucket may bring manifest and Checkpoint.
func TestAHostileManifestIsRefused(t *testing.T) {
	t.Parallel()
	file := func(path, more string) string {
		return `{"path":"` + path + `","kind":"file","mode":"0600"` + more + `}`
	}
	kind := func(kind string) string { return `{"path":"a","kind":"` + kind + `","mode":"0600"}` }
	const folder = `{"path":"d","kind":"directory","mode":"0700"}`
	huge := fmt.Sprintf(`,"size":%d`, int64(1)<<44)
	for what, test := range map[string]struct{ entries, want string }{
		"a name that climbs":          {file("../evil", ""), `".."`},
		"a name that climbs later":    {folder + "," + file("d/../../evil", ""), `".."`},
		"an absolute name":            {file("/etc/evil", ""), `nor begin`},
		"a backslash":                 {file(`d\\..\\evil`, ""), "backslashes"},
		"a name with a NUL":           {file(`a\u0000b`, ""), "control characters"},
		"a name twice":                {file("a", "") + "," + file("a", ""), `"a" comes twice`},
		"a file as a folder":          {file("a", "") + "," + file("a/b", ""), "without its directory before it"},
		"a folder that comes later":   {file("d/a", "") + "," + folder, "without its directory before it"},
		"a note of the agent's":       {file("agent.json", ""), "notes that are not uploaded"},
		"a symlink":                   {`{"path":"a","kind":"symlink","mode":"0777","target":"/etc"}`, `"symlink"`},
		"a hard link":                 {kind("link"), `"link"`},
		"a device":                    {kind("device"), `"device"`},
		"a mode of five digits":       {`{"path":"a","kind":"file","mode":"10600"}`, "10600"},
		"a size below nothing":        {file("a", `,"size":-1`), "-1"},
		"a size of 2^63-1":            {file("a", `,"size":9223372036854775807`), "9223372036854775807"},
		"a size of 2^63":              {file("a", `,"size":9223372036854775808`), "9223372036854775808"},
		"sizes whose sum is too much": {strings.Join([]string{file("a", huge), file("b", huge), file("c", huge), file("d", huge), file("e", huge)}, ","), "bytes"},
		"a size without content":      {file("a", `,"size":1`), "bytes"},
		"extents below nothing":       {file("a", `,"extents":-1`), "-1 extents"},
		"more extents than there are": {file("a", `,"size":1,"extents":4294967294`), "not what the head says"},
		"an owner below nothing":      {file("a", `,"uid":-1`), "-1"},
		"an owner of 2^32":            {file("a", `,"gid":4294967296`), "4294967296"},
		"a folder with content":       {`{"path":"d","kind":"directory","mode":"0700","size":1}`, "it is a directory"},
	} {
		head := `{"pageSize":4096,"entries":[` + test.entries + `]}`
		_, err := parseManifest(append(binary.LittleEndian.AppendUint32(nil, uint32(len(head))), head...))
		expectError(t, what, err, storage.ErrCorrupt)
		if !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: the error is %v; it should have %s", what, err, test.want)
		}
	}
}

// TestMoreThanWasCapturedIsNotFetched: else a manifest would decide how much of a node's disk it takes.
func TestMoreThanWasCapturedIsNotFetched(t *testing.T) {
	t.Parallel()
	f, p := folder(t), memory(1)
	c, _ := p.upload(t, f, "c")
	m, err := f.manifest(t.Context(), c, f.memory().tables(down))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "to")
	f.Most = m.content() - 1
	_, err = f.Fetch(t.Context(), c, to, nil)
	expectError(t, "a byte too many", err, storage.ErrCorrupt)
	expectNothing(t, to)
	f.Most++
	if _, err := f.Fetch(t.Context(), c, to, nil); err != nil {
		t.Error(err)
	}
}
