package main

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const pageSize = 4096 // bytes

// touched is memory of which each page begins with a number of its own: quick to fill, also for a process with little processor time.
var touched []byte

func touch(mib int) (err error) {
	if mib == 0 {
		return nil
	}
	touched, err = syscall.Mmap(-1, 0, mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	for at := 0; at < len(touched); at += pageSize {
		copy(touched[at:], strconv.FormatUint(rand.Uint64(), 16))
	}
	return err
}

// checksum answers with one over all memory that is held, and its size in bytes.
func checksum(w http.ResponseWriter, _ *http.Request) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = sum.Write(held.memory) // it never fails
	for at := 0; at < len(touched); at += pageSize {
		_, _ = sum.Write(touched[at : at+32])
	}
	fmt.Fprintf(w, "%08x %d", sum.Sum32(), len(held.memory)+len(touched))
}

// spin keeps one processor busy for a second and answers with the share of it that the process got, in percent.
func spin(w http.ResponseWriter, _ *http.Request) {
	used := func() time.Duration {
		var usage syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it never fails
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	began, before := time.Now(), used()
	for time.Since(began) < time.Second {
		_ = rand.Uint64()
	}
	fmt.Fprintf(w, "%d", 100*(used()-before)/time.Since(began))
}

// ignoreTerm has the process outlive its stop signal, which it leaves a file for.
func ignoreTerm() {
	came := make(chan os.Signal, 1)
	signal.Notify(came, syscall.SIGTERM)
	go func() {
		for range came {
			_ = os.WriteFile("/scratch/term", nil, 0o644)
		}
	}()
}
