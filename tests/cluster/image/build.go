package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/transparent-checkpoint/operator/tests/cluster/debian"
)

// Config is how the container starts.
type Config struct {
	Entrypoint []string
	User       string
	StopSignal string // as SIGTERM, which it is where this is empty
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// FromBinary writes, to the archive target, an image of one static binary, which is also its entrypoint.
func FromBinary(ref, binary, target string, config Config) error {
	program := "/" + filepath.Base(binary)
	if len(config.Entrypoint) == 0 {
		config.Entrypoint = []string{program}
	}
	layer := target + ".layer"
	defer os.Remove(layer)
	if err := tarFile(binary, program, layer); err != nil {
		return err
	}
	return write(ref, target, config, layer)
}

// FromTree writes, to the archive target, an image of what lies in a folder. All of it belongs to root there, is readable by everyone, and
// has no time: the same files give the same image.
func FromTree(ref, dir, target string, config Config) error {
	if len(config.Entrypoint) == 0 {
		return errors.New("an image of a folder needs an entrypoint")
	}
	layer := target + ".layer"
	defer os.Remove(layer)
	if err := tarTree(dir, layer, plain); err != nil {
		return fmt.Errorf("make a layer of %s: %w", dir, err)
	}
	return write(ref, target, config, layer)
}

// FromDebian writes, to the archive target, an image of a minimal Debian with further packages. What was installed once is
// kept in the cache.
func FromDebian(ctx context.Context, cache debian.Cache, base, ref string, packages []string, target string, config Config) error {
	if len(config.Entrypoint) == 0 {
		config.Entrypoint = []string{"/bin/sh"}
	}
	baseLayer, err := layerOf(cache, "base", base)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return write(ref, target, config, baseLayer)
	}
	tree := filepath.Join(cache.Dir, "layers", keyOf(base, packages))
	if _, err := os.Stat(tree); errors.Is(err, fs.ErrNotExist) {
		if err := cache.Layer(ctx, base, tree, packages); err != nil {
			return err
		}
	}
	layer, err := layerOf(cache, filepath.Base(tree), tree)
	if err != nil {
		return err
	}
	return write(ref, target, config, baseLayer, layer)
}

// layerOf returns the tar of a tree, kept in the cache under that name.
func layerOf(cache debian.Cache, name, tree string) (string, error) {
	path := filepath.Join(cache.Dir, "layers", name+".tar")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := tarTree(tree, path+".partial", nil); err != nil {
		return "", fmt.Errorf("make layer %s: %w", name, err)
	}
	return path, os.Rename(path+".partial", path)
}

// write puts layers together to an image in an archive.
func write(ref, target string, config Config, layers ...string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("image name is %q: %w", ref, err)
	}
	openers := make([]tarball.Opener, len(layers))
	for i, path := range layers {
		openers[i] = opener(path)
	}
	image, err := compose(&v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{
		Entrypoint: config.Entrypoint, User: config.User, StopSignal: config.StopSignal, Env: []string{searchPath},
	}}, openers)
	if err != nil {
		return err
	}
	if err := writeArchive(tag, image, target+".partial"); err != nil {
		return err
	}
	return os.Rename(target+".partial", target)
}

// compose makes an image of plain tars. They stay as they are: nothing carries them far, and packing them would take longer.
func compose(file *v1.ConfigFile, layers []tarball.Opener) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, open := range layers {
		layer, err := newLayer(open)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	whole, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	whole = whole.DeepCopy()
	whole.OS, whole.Architecture, whole.Config = file.OS, file.Architecture, file.Config
	return mutate.ConfigFile(image, whole)
}

// uncompressed returns the image of an archive with its layers as they lie there, which the library would compress.
func uncompressed(image v1.Image) (v1.Image, error) {
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	openers := make([]tarball.Opener, len(layers))
	for i, layer := range layers {
		openers[i] = layer.Uncompressed
	}
	return compose(file, openers)
}
