package image

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
)

func TestLogsGoWithTheirCheckpoint(t *testing.T) {
	for name, keys := range map[string]Keys{"plain": nil, "encrypted": {bytes.Repeat([]byte{7}, 32)}} {
		t.Run(name, func(t *testing.T) {
			store, err := filesystem.New(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			f := &Folder{Store: store, Name: "l", Keys: keys}
			text := []byte("what CRIU said")
			for _, checkpoint := range []string{"failed", "failed-too"} { // one is the beginning of the other
				for _, name := range []string{"restore-1", "capture-1", "capture-1"} {
					if err := f.PutLog(t.Context(), checkpoint, name, text); err != nil {
						t.Fatal(err)
					}
				}
			}
			var got bytes.Buffer
			if err := f.Log(t.Context(), "failed", "capture-1", &got); err != nil || got.String() != string(text) {
				t.Errorf("it is %q, %v", &got, err)
			}
			body, err := store.Get(t.Context(), "l/logs/failed/capture-1", storage.Range{})
			if err != nil {
				t.Fatal(err)
			}
			var object bytes.Buffer
			if _, err := object.ReadFrom(body); err != nil || bytes.Contains(object.Bytes(), text) != (keys == nil) {
				t.Errorf("the object shows its content: %t, %v", keys != nil, err)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
			if err := f.Delete(t.Context(), "failed"); err != nil {
				t.Fatal(err)
			}
			if names, err := f.Logs(t.Context(), "failed"); err != nil || names != nil {
				t.Errorf("of the deleted one are left %v, %v", names, err)
			}
			if names, err := f.Logs(t.Context(), "failed-too"); err != nil || !cmp.Equal(names, []string{"capture-1", "restore-1"}) {
				t.Errorf("of the other one there are %v, %v", names, err)
			}
			if err := f.PutLog(t.Context(), "c", "../up", text); !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("a name that climbs: %v", err)
			}
		})
	}
}
