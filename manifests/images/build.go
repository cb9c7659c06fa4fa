package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// compilers are those of C, by the architecture that they compile for on a machine of another one.
var compilers = map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}

// build makes in dir what the images of an architecture consist of. The programs say that they are of that version; of an empty one they are "dev".
func build(ctx context.Context, architecture, version, dir string) (built, error) {
	compiler, found := compilers[architecture]
	if !found {
		return built{}, fmt.Errorf("architecture is %q; it may be amd64, arm64", architecture)
	}
	made := built{programs: filepath.Join(dir, "bin"), sharedIPC: filepath.Join(dir, "shared-ipc.so")}
	if err := os.MkdirAll(made.programs, 0o755); err != nil {
		return built{}, err
	}
	link := "-s -w -buildid="
	if version != "" {
		link += " -X github.com/transparent-checkpoint/operator/internal/version.Version=" + version
	}
	words := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", link, "-o", made.programs + "/"}
	for _, i := range images {
		for _, p := range i.programs {
			words = append(words, "./cmd/"+p.name)
		}
	}
	environment := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT="}
	if _, err := output(ctx, environment, "go", words...); err != nil {
		return built{}, err
	}
	for _, i := range images {
		for _, p := range i.programs {
			if err := checkStatic(filepath.Join(made.programs, p.name), architecture); err != nil {
				return built{}, err
			}
		}
	}
	_, err := output(ctx, nil, compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made.sharedIPC, "node/criu/shared-ipc.c")
	if errors.Is(err, exec.ErrNotFound) {
		return built{}, fmt.Errorf("the machine lacks %s, which Debian has in the package gcc-%s: %w",
			compiler, strings.ReplaceAll(strings.TrimSuffix(compiler, "-gcc"), "_", "-"), err)
	}
	if err != nil {
		return built{}, err
	}
	made.debian, err = output(ctx, nil, "bin/localcluster", "build", "--for-images="+architecture)
	return made, err
}

// checkStatic refuses a program that needs a loader, or is of another architecture: there is nothing in the image of the manager but it.
func checkStatic(path, architecture string) error {
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[architecture]
	program, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer program.Close()
	if program.Machine != machine {
		return fmt.Errorf("%s is for %s; it may be for %s", filepath.Base(path), program.Machine, machine)
	}
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs a loader; the programs of images are static", filepath.Base(path))
		}
	}
	return nil
}

// output runs a program, what it says to a person included, and returns its output without the end of the line.
func output(ctx context.Context, environment []string, name string, words ...string) (string, error) {
	command := exec.CommandContext(ctx, name, words...)
	command.Env = append(os.Environ(), environment...)
	command.Stderr = os.Stderr
	data, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", filepath.Base(name), words[0], err)
	}
	return strings.TrimRight(string(data), "\n"), nil
}
