package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// release is what all images of one build have in common.
type release struct {
	version, revision string // revision is a commit, with -dirty behind it where files differ from it; empty where there is none
	created           v1.Time
	isPlain           bool // layers are not compressed
}

const source = "https://github.com/transparent-checkpoint/operator"

// compose makes the image of an architecture from layers of files.
func (r release) compose(i image, architecture string, layers [][]file) (v1.Image, error) {
	made := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range layers {
		layer, err := newLayer(files, r.isPlain)
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: r.created, CreatedBy: "manifests/images"}
		if made, err = mutate.Append(made, mutate.Addendum{Layer: layer, History: history}); err != nil {
			return nil, err
		}
	}
	config, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", architecture, r.created
	config.Config = v1.Config{
		Entrypoint: []string{"/" + path.Join(i.programs[0].folder, i.programs[0].name)}, User: i.user, Labels: r.annotations(i),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	if made, err = mutate.ConfigFile(made, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(made, r.annotations(i)).(v1.Image), nil
}

// annotations are those that the image specification names, which are labels of the image too.
func (r release) annotations(i image) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.title":    i.title,
		"org.opencontainers.image.version":  r.version,
		"org.opencontainers.image.source":   source,
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.created":  r.created.UTC().Format("2006-01-02T15:04:05Z"),
	}
	if r.revision != "" {
		all["org.opencontainers.image.revision"] = r.revision
	}
	return all
}

// platformImage is the image of an architecture.
type platformImage struct {
	architecture string
	image        v1.Image
}

func (p platformImage) platform() *v1.Platform {
	return &v1.Platform{OS: "linux", Architecture: p.architecture}
}

// write writes the images of all architectures to the archive target, and returns the digest by which they are pulled. The archive is an OCI layout
// with one entry: an image, or for several architectures their index. Beside that it is a docker archive of the first of them.
func write(tag name.Tag, made []platformImage, annotations map[string]string, target string) (v1.Hash, error) {
	dir := target + ".layout"
	defer os.RemoveAll(dir)
	if err := os.RemoveAll(dir); err != nil {
		return v1.Hash{}, err
	}
	tree, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	full, err := reference.ParseDockerRef(tag.String())
	if err != nil {
		return v1.Hash{}, err
	}
	named := layout.WithAnnotations(map[string]string{ // by which containerd, and others, know the name of an image
		"io.containerd.image.name": full.String(), "org.opencontainers.image.ref.name": tag.TagStr(),
	})
	var digest v1.Hash
	if len(made) == 1 {
		if digest, err = made[0].image.Digest(); err != nil {
			return digest, err
		}
		err = tree.AppendImage(made[0].image, named, layout.WithPlatform(*made[0].platform()))
	} else {
		index := mutate.Annotations(empty.Index, annotations).(v1.ImageIndex)
		for _, one := range made {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one.image, Descriptor: v1.Descriptor{Platform: one.platform()}})
		}
		if digest, err = index.Digest(); err != nil {
			return digest, err
		}
		err = tree.AppendIndex(index, named)
	}
	if err != nil {
		return digest, err
	}
	if err := addDockerManifest(dir, tag, made[0].image); err != nil {
		return digest, err
	}
	return digest, archive(dir, target)
}

// addDockerManifest adds to a layout what makes a docker archive of it, which `bin/localcluster image load` and older engines read.
func addDockerManifest(dir string, tag name.Tag, one v1.Image) error {
	manifest, err := one.Manifest()
	if err != nil {
		return err
	}
	blob := func(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }
	described := tarball.Descriptor{Config: blob(manifest.Config.Digest), RepoTags: []string{tag.String()}}
	for _, layer := range manifest.Layers {
		described.Layers = append(described.Layers, blob(layer.Digest))
	}
	data, err := json.Marshal(tarball.Manifest{described})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), data, 0o644)
}

// archive writes the files of a folder to a tar, in the order of their names and without times.
func archive(dir, target string) error {
	out, err := os.Create(target + ".partial")
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		inside, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return copyInto(w, path, inside)
	})
	if err := errors.Join(err, w.Close(), out.Close()); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return os.Rename(target+".partial", target)
}

func copyInto(w *tar.Writer, path, inside string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: inside, Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}
