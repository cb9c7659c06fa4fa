package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// debianSuite is the release of Debian that `bin/localcluster build --for-images` takes packages from.
const debianSuite = "forky"

func main() {
	var platforms, target, repository, tag string
	var r release
	flag.StringVar(&platforms, "platforms", "linux/amd64", "what to build for: linux/amd64, linux/arm64 or both, separated by a comma")
	flag.StringVar(&target, "output", "build/images", "folder that the archives and lists are written to")
	flag.StringVar(&repository, "repository", "localhost", "what stands before the names of the images: a registry, and perhaps a path in it")
	flag.StringVar(&tag, "tag", "", "tag of the images (default: the version)")
	flag.StringVar(&r.version, "version", "", "version that the images say they are of (default: what git describe says)")
	flag.BoolVar(&r.isPlain, "plain", false, "do not compress the layers: bigger, and quicker for what stays on this machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, r, strings.Split(platforms, ","), target, repository, tag)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, r release, platforms []string, target, repository, tag string) error {
	if err := r.describe(ctx); err != nil {
		return err
	}
	tag = cmp.Or(tag, r.version)
	says := r.version
	if r.isPlain { // else every commit would make other programs, though nothing of them changed
		says = ""
	}
	made := map[string][]platformImage{}
	for _, platform := range platforms {
		architecture, isLinux := strings.CutPrefix(platform, "linux/")
		if !isLinux {
			return fmt.Errorf("platform is %q; it may be linux/amd64, linux/arm64", platform)
		}
		from, err := build(ctx, architecture, says, filepath.Join(target, "parts", architecture))
		if err != nil {
			return err
		}
		for _, i := range images {
			one, err := r.make(i, architecture, from, target)
			if err != nil {
				return fmt.Errorf("make %s for %s: %w", i.name, architecture, err)
			}
			made[i.name] = append(made[i.name], platformImage{architecture, one})
		}
	}
	for _, i := range images {
		named, err := name.NewTag(path.Join(repository, i.name) + ":" + tag)
		if err != nil {
			return fmt.Errorf("name of the image: %w", err)
		}
		digest, err := write(named, made[i.name], r.annotations(i), filepath.Join(target, i.name+".tar"))
		if err != nil {
			return err
		}
		fmt.Printf("%s@%s\n", named, digest)
	}
	return nil
}

// make composes an image, and writes the list of what is in it.
func (r release) make(i image, architecture string, from built, target string) (v1.Image, error) {
	layers, err := i.layers(from)
	if err != nil {
		return nil, err
	}
	one, err := r.compose(i, architecture, layers)
	if err != nil {
		return nil, err
	}
	digest, err := one.Digest()
	if err != nil {
		return nil, err
	}
	list := r.newBill(i, architecture, digest)
	for _, p := range i.programs {
		if err := list.addProgram(filepath.Join(from.programs, p.name), r.version); err != nil {
			return nil, err
		}
	}
	var files []string
	for _, f := range layers[0] {
		files = append(files, path.Base(f.path))
	}
	if err := list.addDebian(filepath.Join(from.debian, "packages.json"), debianSuite, files); err != nil {
		return nil, err
	}
	return one, list.write(filepath.Join(target, i.name+"-"+architecture+".spdx.json"))
}

// describe fills in from git what it was not told. What is not in a repository has no revision, and is as old as time. SOURCE_DATE_EPOCH, in seconds
// since 1970, goes before the time of the commit: https://reproducible-builds.org/specs/source-date-epoch.
func (r *release) describe(ctx context.Context) error {
	seconds, version := "0", "unknown"
	if revision, err := output(ctx, nil, "git", "rev-parse", "HEAD"); err == nil {
		changed, err := output(ctx, []string{"GIT_OPTIONAL_LOCKS=0"}, "git", "status", "--porcelain", "--untracked-files=no")
		if err != nil {
			return err
		}
		if seconds, err = output(ctx, nil, "git", "log", "-1", "--format=%ct"); err != nil {
			return err
		}
		if version, err = output(ctx, nil, "git", "describe", "--tags", "--always", "--abbrev=12"); err != nil {
			return err
		}
		r.revision = revision
		if changed != "" {
			r.revision, version = revision+"-dirty", version+"-dirty"
		}
	}
	r.version = cmp.Or(r.version, version)
	seconds = cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), seconds)
	since, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is %q; it may be seconds since 1970: %w", seconds, err)
	}
	r.created = v1.Time{Time: time.Unix(since, 0).UTC()}
	return nil
}
