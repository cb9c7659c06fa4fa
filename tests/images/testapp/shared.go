package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// between is what the process shares with one that was started by exec.
var between struct {
	sync.Mutex
	piped, locked string
}

func note(what *string, text string) {
	between.Lock()
	defer between.Unlock()
	*what += text
}

// makePipe answers GET /pipe with the descriptor of a pipe's writing end, which another process can open below /proc. When the first piece has come this
// process closes it, so that the other has the only one.
func makePipe(w http.ResponseWriter, _ *http.Request) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	go func() {
		piece := make([]byte, 64)
		n, err := unix.Read(ends[0], piece)
		note(&between.piped, fmt.Sprintf("read %q", piece[:max(n, 0)]))
		if err = errors.Join(err, unix.Close(ends[1])); err != nil {
			note(&between.piped, ": "+err.Error())
		}
		for {
			n, err = unix.Read(ends[0], piece)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				note(&between.piped, ", then "+err.Error())
				return
			case n == 0:
				note(&between.piped, ", then its end")
				return
			default:
				note(&between.piped, fmt.Sprintf(", then %q", piece[:n]))
			}
		}
	}()
	fmt.Fprint(w, ends[1])
}

// piped answers with what came by the pipe so far.
func piped(w http.ResponseWriter, _ *http.Request) {
	between.Lock()
	defer between.Unlock()
	fmt.Fprint(w, between.piped)
}

// lockFile answers GET /lock?path=PATH&shared=1: it asks for a lock of a file and waits for it, while it serves.
func lockFile(w http.ResponseWriter, r *http.Request) {
	file, err := os.OpenFile(r.FormValue("path"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	kind, name := unix.LOCK_EX, "alone"
	if r.FormValue("shared") != "" {
		kind, name = unix.LOCK_SH, "shared"
	}
	go func() {
		err := unix.Flock(int(file.Fd()), kind)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(file.Fd()), kind)
		}
		if err != nil {
			name = err.Error()
		}
		note(&between.locked, name+" ")
	}()
}

// locked answers with the locks that came.
func locked(w http.ResponseWriter, _ *http.Request) {
	between.Lock()
	defer between.Unlock()
	fmt.Fprint(w, between.locked)
}

// feed writes a line into a pipe that it opens by its path, and holds it open.
func feed(path string) error {
	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(pipe, "hello"); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return pipe.Close()
}

// lockAndSleep locks a file, shared with others, and holds the lock.
func lockAndSleep(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH); err != nil {
		return err
	}
	fmt.Println("locked")
	time.Sleep(time.Hour)
	return file.Close()
}
