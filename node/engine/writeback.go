package engine

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// writeBackInterval is how often the disk is told of what has been written.
const writeBackInterval = 50 * time.Millisecond

// writeBack has the disk begin with the memory pages in a folder while CRIU still writes them, until the returned function is called. CRIU keeps
// one processor busy and the disk idle; without this the disk has everything to do at once when the container's file system is unmounted, and
// whoever uploads the state stands still meanwhile. It waits for nothing and promises nothing: that is sync's.
func writeBack(images string) (stop func()) {
	done := make(chan struct{})
	go func() {
		files := map[string]*os.File{}
		defer func() {
			for _, file := range files {
				_ = file.Close()
			}
		}()
		for {
			select {
			case <-done:
				return
			case <-time.After(writeBackInterval):
			}
			paths, _ := filepath.Glob(filepath.Join(images, "pages-*.img"))
			for _, path := range paths {
				if files[path] == nil {
					file, err := os.Open(path)
					if err != nil {
						continue
					}
					files[path] = file
				}
				_ = unix.SyncFileRange(int(files[path].Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
			}
		}
	}()
	return func() { close(done) }
}
