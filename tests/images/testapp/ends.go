package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// parent runs this program as its child, and ends as a shell would: with the child's exit code, or 128 and the number of the signal that ended it.
func parent(words []string) {
	self, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	child := exec.Command(self, words...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	_ = child.Run() // how it ended is its state
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(child.ProcessState.ExitCode())
}

// raise answers GET /raise?signal=NUMBER: the process sends itself a signal, which a first process of a container may ignore.
func raise(_ http.ResponseWriter, r *http.Request) {
	number, _ := strconv.Atoi(r.FormValue("signal"))
	_ = syscall.Kill(os.Getpid(), syscall.Signal(number)) // nobody reads the answer
}

// grown is memory that was asked for while serving.
var grown [][]byte

// grow answers GET /grow?mib=N: it takes memory, and keeps it.
func grow(w http.ResponseWriter, r *http.Request) {
	mib, _ := strconv.Atoi(r.FormValue("mib"))
	for range mib {
		memory, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for at := 0; at < len(memory); at += pageSize {
			memory[at] = 1
		}
		grown = append(grown, memory)
	}
}

// isSick is what GET /sicken makes the process, in its memory alone.
var isSick atomic.Bool

func sicken(http.ResponseWriter, *http.Request) { isSick.Store(true) }

// healthy answers a probe.
func healthy(w http.ResponseWriter, _ *http.Request) {
	if isSick.Load() {
		http.Error(w, "sick", http.StatusInternalServerError)
	}
}

// terminal answers with the rows and columns of the terminal that is the process's input, and whether its output is one.
func terminal(w http.ResponseWriter, _ *http.Request) {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, err = unix.IoctlGetTermios(1, unix.TCGETS)
	fmt.Fprintf(w, "%d rows, %d columns, output is a terminal: %t", size.Row, size.Col, err == nil)
}
