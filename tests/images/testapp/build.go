package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// builders make the trees that have to come back, below a folder that is empty.
var builders = map[string]func(dir string) error{
	"all": buildAll, "lower": buildLower, "many": buildMany, "huge": buildHuge, "sparse": buildSparse, "plain": buildPlain,
}

// build answers GET /build?what=NAME&at=DIR.
func build(w http.ResponseWriter, r *http.Request) {
	builder, known := builders[r.FormValue("what")]
	if !known {
		http.Error(w, fmt.Sprintf("what is %q; it may be one of %d builders", r.FormValue("what"), len(builders)), http.StatusBadRequest)
		return
	}
	dir, err := base(r.FormValue("at"))
	if err = errors.Join(err, builder(dir)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// then is a time with nanoseconds, long ago.
var then = time.Unix(1_600_000_000, 123_456_789)

// buildPlain makes what every file system takes.
func buildPlain(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	return errors.Join(
		os.MkdirAll(at("a/b/c"), 0o755), os.WriteFile(at("a/b/c/file"), []byte("content"), 0o640), os.WriteFile(at("empty"), nil, 0o444),
		os.Link(at("a/b/c/file"), at("twin")), os.Symlink("a/b", at("inside")), os.Symlink("/etc/passwd", at("absolute")),
		os.Symlink("../../../..", at("outside")), os.Symlink("nowhere", at("dangling")), unix.Mkfifo(at("fifo"), 0o622),
		os.WriteFile(at("line\nbreak"), []byte("1"), 0o600), os.WriteFile(at("not \xff\xfe utf-8"), []byte("2"), 0o600),
		os.WriteFile(at("back\\slash \"quote\" ünï"), []byte("3"), 0o600), os.WriteFile(at("-rf"), []byte("4"), 0o600),
		os.WriteFile(at(strings.Repeat("n", 255)), []byte("5"), 0o600),
		buildDeep(dir), os.Chtimes(at("a/b/c/file"), then, then), os.Chtimes(at("a/b"), then, then),
	)
}

// buildDeep makes a path of 12,000 bytes, three times what a system call takes.
func buildDeep(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	name := strings.Repeat("d", 200)
	for range 60 {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			return err
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return err
		}
		fd = next
	}
	file, err := unix.Openat(fd, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o600)
	return errors.Join(err, unix.Close(file), unix.Close(fd))
}

// buildAll adds what root alone can make.
func buildAll(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // struct vfs_cap_data: CAP_NET_BIND_SERVICE, effective
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255} // user::rwx, user 1000 r, group::r-x, mask r-x, other none
	err := errors.Join(
		buildPlain(dir), os.WriteFile(at("setuid"), []byte("x"), 0o755), os.Chown(at("setuid"), 1000, 1000),
		os.Chmod(at("setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid),
		os.Mkdir(at("sticky"), 0o755), os.Chmod(at("sticky"), 0o777|fs.ModeSticky), os.Lchown(at("dangling"), 7, 8), os.Chown(at("fifo"), 4_000_000_000, 9),
		os.WriteFile(at("capable"), nil, 0o755), unix.Setxattr(at("capable"), "security.capability", capability, 0),
		os.WriteFile(at("noted"), nil, 0o600), unix.Setxattr(at("noted"), "user.empty", nil, 0),
		unix.Setxattr(at("noted"), "user.with=sign", []byte("zero\x00 and more"), 0), unix.Setxattr(at("noted"), "user.big", make([]byte, 3000), 0),
		unix.Setxattr(at("a"), "user.on.a.folder", []byte("yes"), 0), os.Mkdir(at("acl"), 0o750), os.WriteFile(at("acl/before"), nil, 0o600),
		unix.Setxattr(at("acl"), "system.posix_acl_default", acl, 0), os.WriteFile(at("acl/after"), nil, 0o666), os.Mkdir(at("acl/sub"), 0o700),
		os.Mkdir(at("grouped"), 0o755), os.Chown(at("grouped"), 0, 555), os.Chmod(at("grouped"), 0o775|fs.ModeSetgid), os.Mkdir(at("grouped/sub"), 0o755),
		os.WriteFile(at("grouped/file"), nil, 0o600), os.Chown(at("grouped/file"), 0, 0),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.Chmod(at("null"), 0o666),
		// before 1970, and a link's own time
		os.Chtimes(at("empty"), time.Unix(-5, 7), time.Unix(-5, 7)), linkTime(at("inside")), os.Chmod(dir, 0o711|fs.ModeSticky),
		os.Mkdir(at("moved-from"), 0o755), os.WriteFile(at("moved-from/x"), []byte("moved"), 0o600), os.Rename(at("moved-from"), at("moved-to")),
	)
	return errors.Join(err, os.Chtimes(dir, then, then))
}

func linkTime(path string) error {
	at := unix.NsecToTimespec(then.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// buildLower changes a tree that came with the image: /lower of the tests' own image.
func buildLower(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	return errors.Join(
		os.WriteFile(at("changed"), []byte("changed"), 0o600), os.Remove(at("deleted")), os.Rename(at("renamed"), at("renamed-to")),
		os.RemoveAll(at("gone")), os.RemoveAll(at("opaque")), os.Mkdir(at("opaque"), 0o700), os.WriteFile(at("opaque/new"), []byte("new"), 0o600),
		os.Link(at("linked"), at("linked-too")), os.Chmod(at("mode"), 0o4755), os.Chown(at("owner"), 5, 6), os.Chmod(at("folder"), 0o700),
		os.Remove(at("folder/one")), os.WriteFile(at("folder/three"), []byte("3"), 0o600), os.Remove(at("tofolder")), os.Mkdir(at("tofolder"), 0o755),
		os.RemoveAll(at("tofile")), os.WriteFile(at("tofile"), []byte("a file now"), 0o600), os.Remove(at("tolink")), os.Symlink("changed", at("tolink")),
	)
}

// buildMany makes 100,000 small files in 100 folders.
func buildMany(dir string) error {
	for i := range 100 {
		folder := filepath.Join(dir, fmt.Sprintf("folder-%d", i))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		for j := range 1000 {
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("file-%d", j)), fmt.Appendf(nil, "%d %d", i, j), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildHuge makes a file of 1 GiB that nothing compresses.
func buildHuge(dir string) error {
	file, err := os.Create(filepath.Join(dir, "huge"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, rand.Reader, 1<<30)
	return errors.Join(err, file.Close())
}

// buildSparse makes a file of 1 GiB with little in it, one of nothing but a hole, and one with 10,000 islands.
func buildSparse(dir string) error {
	file, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		return err
	}
	_, first := file.WriteAt([]byte("at the beginning"), 0)
	_, second := file.WriteAt([]byte("in the middle"), 500<<20+123)
	err = errors.Join(first, second, file.Truncate(1<<30), file.Close())
	hole, holeErr := os.Create(filepath.Join(dir, "hole"))
	islands, islandsErr := os.Create(filepath.Join(dir, "islands"))
	if err = errors.Join(err, holeErr, islandsErr); err != nil {
		return err
	}
	for i := range int64(10_000) {
		if _, err := islands.WriteAt([]byte("island"), i*(96<<10)); err != nil {
			return err
		}
	}
	return errors.Join(hole.Truncate(1<<30), hole.Close(), islands.Close())
}
