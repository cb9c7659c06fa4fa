package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Tags returns the names of the images in an archive.
func Tags(archive string) ([]string, error) {
	manifest, err := tarball.LoadManifest(opener(archive))
	if err != nil {
		return nil, fmt.Errorf("%s holds no images in the way that `docker save` and `localcluster image build` write them: %w", archive, err)
	}
	var tags []string
	for _, image := range manifest {
		tags = append(tags, image.RepoTags...)
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("%s names none of its images", archive)
	}
	return tags, nil
}

func opener(path string) tarball.Opener {
	return func() (io.ReadCloser, error) { return os.Open(path) }
}

// Archives returns the archives in a folder.
func Archives(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "*.tar"))
}

// ServeRegistry answers pulls of every image in the archives of a folder, whatever registry an image's name points to. It reads the
// folder once, at its start, and ends with the context.
func ServeRegistry(ctx context.Context, address, dir string) error {
	blobs := filepath.Join(dir, "blobs")
	if err := os.MkdirAll(blobs, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)), registry.Logger(log.New(io.Discard, "", 0))),
		ReadHeaderTimeout: 10 * time.Second,
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	archives, err := Archives(dir)
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := push(address, archive); err != nil {
			log.Printf("%s is not served: %v", archive, err)
		}
	}
	return <-failed
}

// push writes the images of an archive to the registry, under their names without the host.
func push(address, archive string) error {
	tags, err := Tags(archive)
	if err != nil {
		return err
	}
	for _, ref := range tags {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		image, err := tarball.Image(opener(archive), &tag)
		if err != nil {
			return err
		}
		if image, err = uncompressed(image); err != nil {
			return err
		}
		here, err := name.NewTag(address+"/"+tag.RepositoryStr()+":"+tag.TagStr(), name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(here, image); err != nil {
			return fmt.Errorf("serve %s: %w", ref, err)
		}
		log.Printf("serving %s", ref)
	}
	return nil
}
