package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// anonymous returns how many MiB of memory that no file has a process takes (RssAnon); 0 if it is gone.
func anonymous(process string) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", process, "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib)
	return kib >> 10
}

// watchMemory looks at the process's anonymous memory until it is stopped, and says how many MiB that were at most.
func watchMemory(stop chan struct{}, most chan int64) {
	top := int64(0)
	for {
		top = max(top, anonymous("self"))
		select {
		case <-stop:
			most <- top
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watchedFile is there as long as a program of the node is watched.
const watchedFile = home + "/watched"

// watchProgram does the same with all processes of a name, until somebody removes the file.
func watchProgram(ctx context.Context, name string) (most int64, err error) {
	if err := os.WriteFile(watchedFile, nil, 0o600); err != nil {
		return 0, err
	}
	for ctx.Err() == nil {
		if _, err := os.Stat(watchedFile); errors.Is(err, fs.ErrNotExist) {
			return most, nil
		}
		files, err := filepath.Glob("/proc/[0-9]*/comm")
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			if comm, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(comm)) == name {
				most = max(most, anonymous(filepath.Base(filepath.Dir(file))))
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, ctx.Err()
}
