package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// open are the files that the process holds, in the order of their opening.
var open struct {
	sync.Mutex
	files []*os.File
	maps  [][]byte
}

// holdFile answers GET /hold?path=PATH&flags=NUMBER&seek=N&remove=PATH&map=1: it opens a file and keeps it open, and removes a name of it then.
func holdFile(w http.ResponseWriter, r *http.Request) {
	flags, _ := strconv.Atoi(r.FormValue("flags"))
	seek, _ := strconv.ParseInt(r.FormValue("seek"), 10, 64)
	file, err := os.OpenFile(r.FormValue("path"), flags, 0o600)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, err = file.Seek(seek, io.SeekStart)
	open.Lock()
	defer open.Unlock()
	open.files = append(open.files, file)
	if r.FormValue("map") != "" {
		mapped, mapErr := unix.Mmap(int(file.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
		open.maps, err = append(open.maps, mapped), errors.Join(err, mapErr)
	}
	if name := r.FormValue("remove"); name != "" {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Held says of a file that the process holds what it is, and what it reads from it.
type Held struct {
	Name   string `json:"name"`
	Flags  int    `json:"flags"`
	Offset int64  `json:"offset"`
	Links  uint64 `json:"links"`
	Size   int64  `json:"size"`
	Text   string `json:"text"` // the first 64 bytes
}

// heldFiles answers GET /held.
func heldFiles(w http.ResponseWriter, _ *http.Request) {
	open.Lock()
	defer open.Unlock()
	var all []Held
	for _, file := range open.files {
		var stat unix.Stat_t
		h := Held{}
		err := unix.Fstat(int(file.Fd()), &stat)
		h.Links, h.Size = stat.Nlink, stat.Size
		h.Name, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
		h.Flags, _ = unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
		h.Offset, _ = file.Seek(0, io.SeekCurrent)
		text := make([]byte, 64)
		n, _ := file.ReadAt(text, 0)
		h.Text = string(text[:n])
		if err != nil {
			h.Text = err.Error()
		}
		all = append(all, h)
	}
	_ = json.NewEncoder(w).Encode(all)
}

// writeHeld answers GET /write?n=INDEX&text=TEXT: it writes to a held file.
func writeHeld(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	open.Lock()
	defer open.Unlock()
	if err != nil || n < 0 || n >= len(open.files) {
		http.Error(w, fmt.Sprintf("n is %q; there are %d files", r.FormValue("n"), len(open.files)), http.StatusBadRequest)
		return
	}
	if _, err := open.files[n].WriteString(r.FormValue("text")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
