package storagetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

func testList(t *testing.T, store storage.Store) {
	// In the order of their bytes, which is not that of the folders: "-" < "." < "/" < "0".
	all := []string{
		"A", "a-b", "a.b", "a/b/1", "a/b/2", "a/b-c", "a/c", "a0", "b c+d%20&e=f?g#h", "é/ü",
	}
	for _, key := range all {
		put(t, store, key, []byte(key))
	}
	tests := map[string]struct {
		prefix, after string
		want          []string
	}{
		"everything":                         {want: []string{"A", "a-b", "a.b", "a/b-c", "a/b/1", "a/b/2", "a/c", "a0", "b c+d%20&e=f?g#h", "é/ü"}},
		"a folder":                           {prefix: "a/", want: []string{"a/b-c", "a/b/1", "a/b/2", "a/c"}},
		"a folder in a folder":               {prefix: "a/b/", want: []string{"a/b/1", "a/b/2"}},
		"the beginning of names":             {prefix: "a/b", want: []string{"a/b-c", "a/b/1", "a/b/2"}},
		"a whole key":                        {prefix: "a/b/2", want: []string{"a/b/2"}},
		"nothing":                            {prefix: "a/b/3"},
		"a folder that is not there":         {prefix: "no/such/"},
		"an object is not a folder":          {prefix: "A/"},
		"after a key":                        {after: "a/b/1", want: []string{"a/b/2", "a/c", "a0", "b c+d%20&e=f?g#h", "é/ü"}},
		"after what is no key":               {after: "a/b/0", want: []string{"a/b/1", "a/b/2", "a/c", "a0", "b c+d%20&e=f?g#h", "é/ü"}},
		"a folder after a key":               {prefix: "a/", after: "a/b/1", want: []string{"a/b/2", "a/c"}},
		"a folder after all of it":           {prefix: "a/", after: "a0"},
		"a folder after a key ahead of it":   {prefix: "a/", after: "a-b", want: []string{"a/b-c", "a/b/1", "a/b/2", "a/c"}},
		"letters that are not ASCII":         {prefix: "é", want: []string{"é/ü"}},
		"signs that mean something in a URL": {prefix: "b c+d%20&e=f?g", want: []string{"b c+d%20&e=f?g#h"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { expectKeys(t, store, test.prefix, test.after, test.want) })
	}
	t.Run("every entry is described", func(t *testing.T) {
		for info, err := range store.List(t.Context(), "a/c", "") {
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(info.Modified).Abs() > time.Minute {
				t.Errorf("modified at %v, which is not now", info.Modified)
			}
			info.Modified = time.Time{}
			same(t, "info", storage.Info{Key: "a/c", Size: 3}, info)
		}
	})
}

func testListPages(t *testing.T, store storage.Store) {
	want := make([]string, 1100) // a page of S3 has 1000
	for i := range want {
		want[i] = fmt.Sprintf("many/%04d", i)
	}
	each(t, want, func(key string) error { return store.Put(t.Context(), key, storage.Bytes(nil), storage.PutOptions{}) })
	expectKeys(t, store, "many/", "", want)
	expectKeys(t, store, "many/", "many/0041", want[42:])

	var first []string
	for info, err := range store.List(t.Context(), "many/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if first = append(first, info.Key); len(first) == 3 {
			break
		}
	}
	same(t, "a list that was left early", want[:3], first)

	each(t, want, func(key string) error { return store.Delete(t.Context(), key) })
	expectKeys(t, store, "many/", "", nil)
}

// each calls do for every key, some at once.
func each(t *testing.T, keys []string, do func(key string) error) {
	t.Helper()
	const workers = 8
	var group sync.WaitGroup
	for first := range workers {
		group.Go(func() {
			for i := first; i < len(keys); i += workers {
				if err := do(keys[i]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}
