package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations of an index by which containerd, and others, know the name of an image.
const (
	fullNameAnnotation = "io.containerd.image.name"
	tagAnnotation      = "org.opencontainers.image.ref.name"
)

// writeArchive writes an image as a tar that is an OCI layout and a docker archive at once, as `docker save` writes it nowadays: both describe
// the same blobs. containerd reads the first, the reader of this package the second.
func writeArchive(tag name.Tag, image v1.Image, target string) error {
	full, err := reference.ParseDockerRef(tag.String())
	if err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	configDigest, err := image.ConfigName()
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	docker := tarball.Descriptor{Config: blob(configDigest), RepoTags: []string{tag.String()}}
	return withTar(target, func(w *tar.Writer) error {
		if err := addJSON(w, "oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}); err != nil {
			return err
		}
		if err := addFile(w, blob(digest), int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
			return err
		}
		if err := addFile(w, blob(configDigest), int64(len(config)), bytes.NewReader(config)); err != nil {
			return err
		}
		for i, layer := range layers {
			name, err := addLayer(w, layer, docker.Layers)
			if err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
			docker.Layers = append(docker.Layers, name)
		}
		index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
			MediaType: types.OCIManifestSchema1, Digest: digest, Size: int64(len(manifest)),
			Annotations: map[string]string{fullNameAnnotation: full.String(), tagAnnotation: tag.TagStr()},
			Platform:    &v1.Platform{OS: "linux", Architecture: "amd64"},
		}}}
		if err := addJSON(w, "index.json", index); err != nil {
			return err
		}
		return addJSON(w, "manifest.json", tarball.Manifest{docker})
	})
}

func blob(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }

// addLayer writes a layer unless it is already there, and returns its name.
func addLayer(w *tar.Writer, layer v1.Layer, there []string) (string, error) {
	digest, err := layer.Digest()
	if err != nil {
		return "", err
	}
	for _, name := range there {
		if name == blob(digest) {
			return name, nil
		}
	}
	size, err := layer.Size()
	if err != nil {
		return "", err
	}
	content, err := layer.Compressed() // as it is in the archive, which is not compressed
	if err != nil {
		return "", err
	}
	defer content.Close()
	return blob(digest), addFile(w, blob(digest), size, content)
}

func addJSON(w *tar.Writer, name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return addFile(w, name, int64(len(data)), bytes.NewReader(data))
}

func addFile(w *tar.Writer, name string, size int64, content io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}
