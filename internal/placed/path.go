package placed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// At returns where a path of the node is seen from here, without the symbolic links in it: an absolute one would lead to a file of this process's own root.
// What is not there is expected where the path says.
func At(root, path string) string {
	plain := filepath.Join(root, path)
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return plain
	}
	defer unix.Close(dir)
	for rest, below := filepath.Clean("/"+path), ""; ; rest, below = filepath.Dir(rest), filepath.Join(filepath.Base(rest), below) {
		file, err := unix.Openat2(dir, rest, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err == nil {
			seen, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file))
			_ = unix.Close(file)
			if err != nil {
				return plain
			}
			return filepath.Join(within(root, seen), below)
		}
		if rest == "/" {
			return plain
		}
	}
}

// within puts a path that the kernel gave below root, unless it is there: of a file in the mounts of another process it is seen from their root.
func within(root, path string) string {
	if path == filepath.Clean(root) || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/") {
		return path
	}
	return filepath.Join(root, path)
}
