package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// Folder is where the checkpoints of one lineage lie, which share what they have in common.
type Folder struct {
	Store storage.Store
	// Name is a key: the prefix of all objects, without a slash at its end.
	Name string
	// Keys encrypt and decrypt. Without a key nothing is encrypted.
	Keys Keys
	// Memory bounds that of all transfers that share it; nil means a budget that all of the process share.
	Memory *Memory
	// Most is how many bytes but holes a checkpoint may have that is fetched; 0 is any number. One that has more is storage.ErrCorrupt.
	Most int64
}

// The objects of a folder: Name/kind/checkpoint, and for packs one name more.
const (
	intentKind   = "intents"
	packKind     = "packs"
	indexKind    = "index"
	manifestKind = "manifests"
)

// Progress is told now and then how many bytes of the files are done, and how many there are. It is called by one goroutine at a time and should
// return soon.
type Progress func(done, total int64)

// Summary says what was done.
type Summary struct {
	ManifestDigest string // "sha256:" and hexadecimal digits
	Files          int    // regular files
	Bytes          int64  // of all files, holes included
	Sent           int64  // bytes of packs that went through the store this time
	Shared         int64  // bytes of the files that are in packs of other checkpoints
}

// Checkpoint names a checkpoint, and which one it has to be.
type Checkpoint struct {
	Name string
	// Digest of its manifest. What does not fit it is storage.ErrCorrupt.
	Digest string
}

func (f *Folder) key(kind string, names ...string) string {
	return path.Join(append([]string{f.Name, kind}, names...)...)
}

// check returns storage.ErrInvalid unless the folder and the checkpoint have proper names.
func (f *Folder) check(checkpoint string) error {
	if err := storage.CheckKey("folder", f.Name); err != nil { // an empty one would be all of the store
		return err
	}
	if strings.Contains(checkpoint, "/") {
		return fmt.Errorf("name of the checkpoint is %q; it may have no slash: %w", checkpoint, storage.ErrInvalid)
	}
	if err := storage.CheckKey("name of the checkpoint", checkpoint); err != nil {
		return err
	}
	return f.Keys.check()
}

func (f *Folder) memory() *Memory {
	if f.Memory != nil {
		return f.Memory
	}
	return common()
}

// probe is up to how many bytes an object is read without knowing how many there are.
const probe = 1 << 20

// get reads an object as a whole. Of one with more than a probe it asks first whether there is room for it.
func (f *Folder) get(ctx context.Context, key string, most int64, tables *tables) ([]byte, error) {
	data, err := f.read(ctx, key, min(probe, most+1), 0)
	if err == nil && len(data) == probe {
		var info storage.Info
		if info, err = f.Store.Stat(ctx, key); err == nil {
			err = tables.take(ctx, info.Size)
		}
		if err == nil {
			data, err = f.read(ctx, key, most+1, min(info.Size, most))
		}
	}
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("object %s has more than %d bytes: %w", key, most, storage.ErrCorrupt)
	}
	return data, nil
}

// read reads up to most bytes of an object, into a slice that grows once where it is known how many there are.
func (f *Folder) read(ctx context.Context, key string, most, size int64) ([]byte, error) {
	body, err := f.Store.Get(ctx, key, storage.Range{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	into := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err = into.ReadFrom(io.LimitReader(body, most))
	return into.Bytes(), err
}

// list returns the names below a kind of objects, and their sizes.
func (f *Folder) list(ctx context.Context, kind string) (map[string]int64, error) {
	names, prefix := map[string]int64{}, f.key(kind)+"/"
	for info, err := range f.Store.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		names[strings.TrimPrefix(info.Key, prefix)] = info.Size
	}
	return names, nil
}

// manifest reads a manifest and compares it with its digest before it looks inside. An empty digest is not compared. A large one waits for the tables.
func (f *Folder) manifest(ctx context.Context, checkpoint Checkpoint, tables *tables) (*manifest, error) {
	key := f.key(manifestKind, checkpoint.Name)
	data, err := f.get(ctx, key, maxManifestSize, tables)
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); checkpoint.Digest != "" && got != checkpoint.Digest {
		return nil, fmt.Errorf("manifest %s has the digest %s; it has to be %s: %w", key, got, checkpoint.Digest, storage.ErrCorrupt)
	}
	return f.parse(checkpoint.Name, data)
}

// parse reads the object of a manifest.
func (f *Folder) parse(name string, data []byte) (*manifest, error) {
	payload, err := f.Keys.openManifest(data)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", f.key(manifestKind, name), err)
	}
	m, err := parseManifest(payload)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", f.key(manifestKind, name), err)
	}
	return m, nil
}

// isThere tells whether a manifest is there, and has its digest. It takes no memory for it.
func (f *Folder) isThere(ctx context.Context, checkpoint Checkpoint) (bool, error) {
	body, err := f.Store.Get(ctx, f.key(manifestKind, checkpoint.Name), storage.Range{})
	if errors.Is(err, storage.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(body, maxManifestSize+1)); err != nil {
		return false, err
	}
	return digestAlgorithm+hex.EncodeToString(hash.Sum(nil)) == checkpoint.Digest, nil
}

// intent is the object that protects packs from being deleted while an upload relies on them.
type intent struct {
	Version int      `json:"version"`
	Packs   []string `json:"packs"`
}

// maxIntentSize bounds an intent, in bytes.
const maxIntentSize = 16 << 20

func (f *Folder) putIntent(ctx context.Context, checkpoint string, packs []string) error {
	data, err := json.Marshal(intent{formatVersion, packs})
	if err != nil {
		return err
	}
	return f.Store.Put(ctx, f.key(intentKind, checkpoint), storage.Bytes(data), storage.PutOptions{})
}

// intents returns by checkpoint the packs on which uploads rely that go on at this moment.
func (f *Folder) intents(ctx context.Context) (map[string][]string, error) {
	names, err := f.list(ctx, intentKind)
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for name := range names {
		key := f.key(intentKind, name)
		data, err := f.get(ctx, key, maxIntentSize, nil)
		if errors.Is(err, storage.ErrNotExist) {
			all[name] = nil // it was there a moment ago, so its checkpoint is taken for unfinished
			continue
		}
		var i intent
		if err == nil {
			if err = json.Unmarshal(data, &i); err != nil {
				err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
			}
		}
		if err == nil && i.Version != formatVersion {
			err = fmt.Errorf("version is %d; it may be %d: %w", i.Version, formatVersion, storage.ErrCorrupt)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all[name] = i.Packs
	}
	return all, nil
}
