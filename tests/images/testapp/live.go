package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// connected counts the connections of GET /open.
var connected atomic.Int64

// surround adds what tests of a container's surroundings ask for: GET /append?path=…&text=… adds a line to a file, GET /exit?code=… ends the
// process, GET /open says how many connections there are to the address connections.
func surround(connections string) error {
	http.HandleFunc("GET /append", func(w http.ResponseWriter, r *http.Request) {
		if err := appendLine(r.URL.Query().Get("path"), r.URL.Query().Get("text")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})
	http.HandleFunc("GET /open", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, connected.Load()) })
	if connections == "" {
		return nil
	}
	listener, err := net.Listen("tcp", connections)
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				continue
			}
			connected.Add(1)
			go func() {
				_, _ = io.Copy(connection, connection)
				connected.Add(-1)
				_ = connection.Close()
			}()
		}
	}()
	return nil
}

// stopSignals are those that the tests' images are ended with, by the names that are written down.
var stopSignals = map[os.Signal]string{
	syscall.SIGTERM: "term", syscall.SIGINT: "int", syscall.SIGQUIT: "quit", syscall.SIGUSR1: "usr1", syscall.Signal(37): "rtmin+3",
}

func notifyStopSignals() <-chan os.Signal {
	came := make(chan os.Signal, 10)
	for s := range stopSignals {
		signal.Notify(came, s)
	}
	return came
}

// endSlowly has a stop signal write two lines to a file, a second apart, before it ends the process.
func endSlowly(path string) {
	came := notifyStopSignals()
	go func() {
		name := stopSignals[<-came]
		_ = appendLine(path, name+" began")
		time.Sleep(time.Second)
		_ = appendLine(path, name+" ended")
		os.Exit(0)
	}()
}

// noteStopSignals writes down those that come, and outlives them.
func noteStopSignals(path string) {
	came := notifyStopSignals()
	go func() {
		for s := range came {
			_ = appendLine(path, stopSignals[s])
		}
	}()
}

func appendLine(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, text)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// leave starts a process that outlives this one, with its inputs and outputs but the last, and ends.
func leave(name string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "sleep", name)
	child.Stdin = os.Stdin
	return child.Start()
}

// processes lists the command lines of all processes that this one sees.
func processes() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		if words, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline"); err == nil {
			fmt.Println(entry.Name(), strings.ReplaceAll(strings.TrimRight(string(words), "\x00"), "\x00", " "))
		}
	}
	return nil
}

// lines counts the lines of its input.
func lines() error {
	input := bufio.NewScanner(os.Stdin)
	for n := 1; input.Scan(); n++ {
		fmt.Printf("line %d: %s\n", n, input.Text())
	}
	return input.Err()
}
