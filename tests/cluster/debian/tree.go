package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Suite is the release that the trees of nodes and images are made of.
const Suite = "trixie"

// keyring is what Debian signs the suite with; it comes with the machine's debian-archive-keyring.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Cache keeps downloaded packages and package lists between calls.
type Cache struct{ Dir string }

// Base makes a minimal tree of the suite in dir, which must not exist; half a tree never stands there.
func (c Cache) Base(ctx context.Context, dir string) error {
	mirror, err := mirror(ctx)
	if err != nil {
		return err
	}
	archives := filepath.Join(c.Dir, "debs")
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(archives, 0o755), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		return err
	}
	if err := run(ctx, "debootstrap", "--variant=minbase", "--cache-dir="+archives, "--keyring="+keyring, Suite, partial, mirror); err != nil {
		return err
	}
	return os.Rename(partial, dir)
}

// layerScript installs packages into a tree seen through an overlay, so that what they bring is all that lands in the upper folder.
// It runs in mount and PID namespaces of its own, which take every mount and every daemon that a package starts with them.
const layerScript = `set -e
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$UPPER,workdir=$WORK" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --bind /dev "$ROOT/dev"
mount --bind "$CACHE/lists" "$ROOT/var/lib/apt/lists"
mount --bind "$CACHE/archives" "$ROOT/var/cache/apt/archives"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/run"
cp "$CACHE/host.conf" "$ROOT/tmp/apt.conf"
cp -L /etc/resolv.conf "$ROOT/tmp/resolv.conf"
[ -e "$ROOT/etc/resolv.conf" ] || touch "$ROOT/etc/resolv.conf"
mount --bind "$ROOT/tmp/resolv.conf" "$ROOT/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$ROOT/usr/sbin/policy-rc.d"; chmod +x "$ROOT/usr/sbin/policy-rc.d"
inside() { env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive APT_CONFIG=/tmp/apt.conf chroot "$ROOT" "$@"; }
[ -n "$FRESH" ] || inside apt-get update -q
inside apt-get install -q -y --no-install-recommends $PACKAGES
rm -f "$ROOT/usr/sbin/policy-rc.d" "$ROOT"/var/cache/apt/*.bin # caches of apt's lists: 84 MiB
`

// listsLife is how long package lists are used before they are fetched again.
const listsLife = 24 * time.Hour

// Layer installs packages above a base tree and leaves what they brought in dir, as an overlay's upper folder (removed files are
// character devices 0:0). dir must not exist.
func (c Cache) Layer(ctx context.Context, base, dir string, packages []string) error {
	partial := dir + ".partial"
	paths := map[string]string{
		"BASE": base, "UPPER": filepath.Join(partial, "upper"), "WORK": filepath.Join(partial, "work"), "ROOT": filepath.Join(partial, "root"),
		"CACHE": filepath.Join(c.Dir, "apt"),
	}
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	for _, path := range []string{paths["UPPER"], paths["WORK"], paths["ROOT"], filepath.Join(c.Dir, "apt/lists"), filepath.Join(c.Dir, "apt/archives/partial")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	if err := c.hostConfiguration(ctx); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", layerScript)
	command.Env = append(os.Environ(), "PACKAGES="+strings.Join(packages, " "))
	if c.listsAreFresh() {
		command.Env = append(command.Env, "FRESH=1")
	}
	for name, path := range paths {
		command.Env = append(command.Env, name+"="+path)
	}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w:\n%s", strings.Join(packages, ", "), err, tail(output))
	}
	if err := os.Rename(paths["UPPER"], dir); err != nil {
		return err
	}
	return os.RemoveAll(partial)
}

// hostConfiguration hands on how this machine fetches packages (proxies, time-outs), which a new tree cannot know.
func (c Cache) hostConfiguration(ctx context.Context) error {
	dump, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return fmt.Errorf("apt-config dump: %w", err)
	}
	return os.WriteFile(filepath.Join(c.Dir, "apt/host.conf"), dump, 0o644)
}

func (c Cache) listsAreFresh() bool {
	lists, err := filepath.Glob(filepath.Join(c.Dir, "apt/lists/*_Packages*"))
	if err != nil || len(lists) == 0 {
		return false
	}
	info, err := os.Stat(lists[0])
	return err == nil && time.Since(info.ModTime()) < listsLife
}

// mirror returns the archive that this machine gets Debian's packages from.
func mirror(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(output)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "Debian" && fields[1] == "Debian" && fields[2] == "main" {
			return fields[3], nil
		}
	}
	return "", errors.New("apt knows no Debian archive with a component main: run `apt-get update` once, and see /etc/apt/sources.list.d")
}

func run(ctx context.Context, name string, args ...string) error {
	if output, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w:\n%s", name, err, tail(output))
	}
	return nil
}

// tail returns the last lines of a program's output, where its error stands.
func tail(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}
