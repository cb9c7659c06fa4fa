package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/transparent-checkpoint/operator/tests/cluster/debian"
	"github.com/transparent-checkpoint/operator/tests/cluster/image"
	"github.com/transparent-checkpoint/operator/tests/cluster/parts"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

func (c *command) image() *cobra.Command {
	group := &cobra.Command{Use: "image", Short: "Bring images into the cluster; no registry is needed"}
	group.AddCommand(c.imageLoad(), c.imageBuild())
	return group
}

func (c *command) imageLoad() *cobra.Command {
	return &cobra.Command{
		Use:   "load FILE",
		Short: "Load an archive (OCI layout or docker archive) on every node, and serve it to image pulls",
		Long: "Load the images of a tar on every node, and serve them to image pulls. The tar is one as `docker save` and `image build --output` write\n" +
			"it: an OCI layout with the manifest.json of a docker archive beside it, or a docker archive alone.",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			cluster, state, err := c.existing()
			if err != nil {
				return err
			}
			return c.load(command.Context(), cluster, state, args[0])
		},
	}
}

// imageParts says what an image is made of and where it goes.
type imageParts struct {
	packages             []string
	binary, tree, output string
	config               image.Config
}

func (c *command) imageBuild() *cobra.Command {
	var made imageParts
	command := &cobra.Command{
		Use:   "build NAME {--from-debian PKG,PKG… | --binary FILE | --tree DIR}",
		Short: "Build an image from Debian's packages, a static binary or a folder, and load it on every node",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return c.buildImage(command.Context(), args[0], made)
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&made.packages, "from-debian", nil, "packages above a minimal Debian "+debian.Suite+`; "" for none`)
	flags.StringVar(&made.binary, "binary", "", "a static binary, which becomes the entrypoint")
	flags.StringVar(&made.tree, "tree", "", "a folder, which becomes the root; all of it will belong to root")
	flags.StringSliceVar(&made.config.Entrypoint, "entrypoint", nil, "entrypoint, words separated by commas (default: the binary, or /bin/sh)")
	flags.StringVar(&made.config.User, "user", "", "user, and perhaps group, as UID[:GID]")
	flags.StringVar(&made.config.StopSignal, "stop-signal", "", "signal that asks the program to end, as SIGQUIT or SIGRTMIN+3 (default: SIGTERM)")
	flags.StringVar(&made.output, "output", "", "write an archive, OCI layout and docker archive at once, to this file instead of loading it")
	command.MarkFlagsOneRequired("from-debian", "binary", "tree")
	command.MarkFlagsMutuallyExclusive("from-debian", "binary", "tree")
	return command
}

func (c *command) buildImage(ctx context.Context, name string, made imageParts) error {
	target := made.output
	if target == "" {
		if _, _, err := c.existing(); err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "localcluster-image-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		target = filepath.Join(dir, "image.tar")
	}
	err := c.log.Step("build image "+name, "", func() error { return c.writeImage(ctx, name, made, target) })
	if err != nil || made.output != "" {
		return err
	}
	cluster, state, err := c.existing()
	if err != nil {
		return err
	}
	return c.load(ctx, cluster, state, target)
}

func (c *command) writeImage(ctx context.Context, name string, made imageParts, target string) error {
	switch {
	case made.binary != "":
		return image.FromBinary(name, made.binary, target, made.config)
	case made.tree != "":
		return image.FromTree(name, made.tree, target, made.config)
	}
	set, err := c.parts(ctx)
	if err != nil {
		return err
	}
	cache, err := parts.DefaultCache()
	if err != nil {
		return err
	}
	return image.FromDebian(ctx, debian.Cache{Dir: cache}, set.Debian(), name, made.packages, target, made.config)
}

// load keeps the archive with the cluster, so that nodes that come later get it too, and brings it to those that run.
func (c *command) load(ctx context.Context, cluster spec.Cluster, state *spec.State, archive string) error {
	tags, err := image.Tags(archive)
	if err != nil {
		return err
	}
	return c.log.Step("load "+strings.Join(tags, ", "), "", func() error {
		sum := sha256.Sum256([]byte(strings.Join(tags, "\n")))
		kept := filepath.Join(cluster.Images(), hex.EncodeToString(sum[:])[:12]+".tar")
		if err := copyFile(archive, kept); err != nil {
			return err
		}
		err := proc.Client{Socket: cluster.Socket()}.Call(ctx, "POST", "/components/registry/restart", nil, nil)
		if err != nil {
			return fmt.Errorf("is the cluster up? %w", err)
		}
		return c.onNodes(ctx, state, func(ctx context.Context, n spec.Node) error {
			if !isBooted(cluster, n) {
				c.log.Printf("node %q is not running; `up` or `node start` brings it the image", n.Name)
				return nil
			}
			return importImage(ctx, cluster, n, kept)
		})
	})
}

// importMissing brings the images that the cluster keeps to the nodes that lack one of them.
func (c *command) importMissing(ctx context.Context, cluster spec.Cluster, state *spec.State) error {
	archives, err := image.Archives(cluster.Images())
	if err != nil {
		return err
	}
	return c.onNodes(ctx, state, func(ctx context.Context, n spec.Node) error {
		if !isBooted(cluster, n) {
			return fmt.Errorf("node %q has not booted yet; its log ends with: %s", n.Name, lastLine(filepath.Join(cluster.Logs(), n.Name+".log")))
		}
		list, err := onNode(ctx, cluster, n, "ctr", "--namespace=k8s.io", "images", "list", "--quiet").Output()
		if err != nil {
			return fmt.Errorf("containerd on node %q does not answer yet: %w", n.Name, saying(err))
		}
		has := strings.Fields(string(list))
		for _, archive := range archives {
			tags, err := image.Tags(archive)
			if err != nil {
				return err
			}
			if containsAll(has, tags) {
				continue
			}
			if err := importImage(ctx, cluster, n, archive); err != nil {
				return err
			}
		}
		return nil
	})
}

// saying adds what a program wrote before it ended.
func saying(err error) error {
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(ended.Stderr)))
	}
	return err
}

func containsAll(has, tags []string) bool {
	known := map[string]bool{}
	for _, name := range has {
		known[name] = true
	}
	for _, tag := range tags {
		full, err := reference.ParseDockerRef(tag)
		if err != nil || !known[full.String()] {
			return false
		}
	}
	return true
}

func importImage(ctx context.Context, cluster spec.Cluster, n spec.Node, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	command := onNode(ctx, cluster, n, "ctr", "--namespace=k8s.io", "images", "import", "-")
	command.Stdin = file
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("import on node %q: %w: %s", n.Name, err, strings.TrimSpace(string(output)))
	}
	return nil
}

func (c *command) onNodes(ctx context.Context, state *spec.State, work func(context.Context, spec.Node) error) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, n := range state.Nodes {
		all.Go(func() error { return work(ctx, n) })
	}
	return all.Wait()
}

// onNode returns a command that runs on a node.
func onNode(ctx context.Context, cluster spec.Cluster, n spec.Node, words ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "/proc/self/exe", append([]string{"enter", "--name=" + cluster.Name, "--node=" + n.Name, "--"}, words...)...)
}

// copyFile replaces a file in one step.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to + ".new")
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
