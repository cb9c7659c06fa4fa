// Command hostile holds one kernel object of which it matters whether CRIU can dump it. Tests run it in pods: one verb, one object. It is a
// static binary.
//
// It says "holds VERB" when the object is there, and then waits. USR1 has it let go of the object, if it can. TERM has it write the file
// VERB.terminated into the folder --report and end with 0: a process whose capture failed got its signal. When the kernel does not give the
// object it ends with 3 and says why.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"
)

// A hold makes an object and returns what lets go of it; nil where nothing can.
type hold func() (release func() error, err error)

// refused is the exit code when the kernel does not give the object.
const refused = 3

func init() { runtime.LockOSThread() } // main runs on the thread that leads the process

func main() {
	report := flag.String("report", "", "folder for the file VERB.terminated")
	flag.Parse()
	holds := map[string]hold{"nothing": func() (func() error, error) { return nil, nil }}
	for _, more := range []map[string]hold{descriptors, sockets, processes, mounts, files} {
		for verb, h := range more {
			holds[verb] = h
		}
	}
	verb := flag.Arg(0)
	if internal(flag.Args()) {
		return
	}
	h, found := holds[verb]
	if !found {
		var verbs []string
		for verb := range holds {
			verbs = append(verbs, verb)
		}
		sort.Strings(verbs)
		fmt.Fprintf(os.Stderr, "verb is %q; it may be one of %s\n", verb, strings.Join(verbs, " "))
		os.Exit(2)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	release, err := h()
	if err != nil {
		fmt.Printf("cannot hold %s: %v\n", verb, err)
		os.Exit(refused)
	}
	fmt.Println("holds", verb)
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		if release == nil {
			continue
		}
		if err := release(); err != nil {
			fmt.Printf("cannot let go of %s: %v\n", verb, err)
			continue
		}
		fmt.Println("let go of", verb)
	}
	if *report != "" {
		if err := os.WriteFile(filepath.Join(*report, verb+".terminated"), nil, 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(0) // also where the runtime's main thread is gone
}

// internal is what the program runs itself for, in a child process.
func internal(words []string) bool {
	if len(words) == 0 || !slices.Contains([]string{"wait-child", "exit-leader-child"}, words[0]) {
		return false
	}
	if words[0] == "exit-leader-child" {
		exitLeader()
	}
	for { // not select, which the runtime would take for a deadlock
		time.Sleep(time.Hour)
	}
}
