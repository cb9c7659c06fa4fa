package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// load makes the images of the programs and loads them on every node, each once.
func load(ctx context.Context, cluster *lab.Cluster, programs []Program) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	loaded := map[string]bool{}
	for _, p := range programs {
		if loaded[p.Image.Name] {
			continue
		}
		loaded[p.Image.Name] = true
		if p.Image.Prepare != nil {
			if err := p.Image.Prepare(ctx, root); err != nil {
				return fmt.Errorf("prepare image %s: %w", p.Image.Name, err)
			}
		}
		if _, err := lab.Localcluster(ctx, cluster.Name, append([]string{"image", "build", p.Image.Name}, p.Image.Build...)...); err != nil {
			return err
		}
	}
	return nil
}

// goProgram is the image of a static Go program below tests/images.
func goProgram(name string) Image {
	binary := "build/images/" + name
	return Image{
		Name: "localhost/" + name + ":fidelity", Build: []string{"--binary=" + binary},
		Prepare: func(ctx context.Context, root string) error {
			build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./tests/images/"+name)
			return runIn(build, root, "CGO_ENABLED=0")
		},
	}
}

// cProgram is the image of a static C program: all files of a folder below tests/images, compiled with more flags.
func cProgram(name string, flags ...string) Image {
	binary := "build/images/" + name
	return Image{
		Name: "localhost/" + name + ":fidelity", Build: []string{"--binary=" + binary},
		Prepare: func(ctx context.Context, root string) error {
			files, err := filepath.Glob(filepath.Join(root, "tests/images", name, "*.c"))
			if err != nil {
				return err
			}
			words := append([]string{"-O2", "-g", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", binary}, files...)
			return runIn(exec.CommandContext(ctx, "gcc", slices.Concat(words, flags, []string{"-lm"})...), root)
		},
	}
}

func runIn(command *exec.Cmd, root string, environment ...string) error {
	if err := os.MkdirAll(filepath.Join(root, "build/images"), 0o755); err != nil {
		return err
	}
	command.Dir, command.Env = root, append(os.Environ(), environment...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, output)
	}
	return nil
}
