package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// workOnNode does one of the program's tasks on the node and prints what came of it as JSON.
func workOnNode(ctx context.Context, args []string) error {
	tasks := map[string]struct {
		args int
		do   func(context.Context, []string) (any, error)
	}{
		"settle": {0, func(ctx context.Context, _ []string) (any, error) {
			return struct{}{}, errors.Join(settleDisk(ctx), touchMemory())
		}},
		"result": {1, func(_ context.Context, args []string) (any, error) {
			return capture.Node{Root: "/"}.Result(args[0], container)
		}},
		"warm": {1, func(_ context.Context, args []string) (any, error) {
			mib, err := strconv.Atoi(args[0])
			if err != nil {
				return nil, err
			}
			return struct{}{}, warmDisk(mib)
		}},
		"raw": {2, func(ctx context.Context, args []string) (any, error) {
			mib, err := strconv.Atoi(args[1])
			if err != nil {
				return nil, err
			}
			return measureRaw(ctx, args[0], mib)
		}},
		"end":           {1, func(ctx context.Context, args []string) (any, error) { return struct{}{}, endContainer(ctx, args[0]) }},
		"passthrough":   {0, func(ctx context.Context, _ []string) (any, error) { return measureCalls(ctx) }},
		"store":         {2, func(ctx context.Context, args []string) (any, error) { return measureStore(ctx, args[0], args[1]) }},
		"watch":         {1, func(ctx context.Context, args []string) (any, error) { return watchProgram(ctx, args[0]) }},
		"stop-watching": {0, func(context.Context, []string) (any, error) { return struct{}{}, os.Remove(watchedFile) }},
		"put":           {2, func(ctx context.Context, args []string) (any, error) { return putFile(ctx, args[0], args[1]) }},
	}
	if len(args) == 0 || len(args)-1 != tasks[args[0]].args || tasks[args[0]].do == nil {
		return fmt.Errorf("on the node it does not understand %q", args)
	}
	came, err := tasks[args[0]].do(ctx, args[1:])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(came)
}

// settlePatience bounds how long the disk is waited for, and quiet is how many bytes a second are nothing.
const (
	settlePatience = time.Minute
	quiet          = 4 << 20
)

// settleDisk returns when the disk has written everything and does next to nothing for a second: what an earlier step left to be written or removed,
// MinIO's deletions among it, is not to be measured with the next one.
func settleDisk(ctx context.Context) error {
	syscall.Sync()
	before, err := diskBytes()
	for end := time.Now().Add(settlePatience); err == nil && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Second)
		var now int64
		if now, err = diskBytes(); now-before < quiet {
			break
		}
		before = now
	}
	return errors.Join(err, ctx.Err())
}

// untouched is how much of the free memory is left as it is.
const untouched = 256 << 20

// touchMemory writes to the memory that is free. A virtual machine gives such back to its host after two seconds (the kernel's free page reporting), and
// the first write to a page then takes more than ten times as long as copying it: a step would be measured by how long the machine did nothing before.
func touchMemory() error {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	free := int64(0)
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "MemFree: %d kB", &free); err == nil {
			break
		}
	}
	if free = free<<10 - untouched; free <= 0 {
		return nil
	}
	memory, err := unix.Mmap(-1, 0, int(free), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE) // where there are none, it takes longer
	return errors.Join(unix.Madvise(memory, unix.MADV_POPULATE_WRITE), unix.Munmap(memory))
}

// diskBytes is what all disks that are no loop have read and written (the kernel's iostats.rst: fields 6 and 10, in sectors of 512 bytes).
func diskBytes() (total int64, err error) {
	data, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || strings.HasPrefix(fields[2], "loop") {
			continue
		}
		read, readErr := strconv.ParseInt(fields[5], 10, 64)
		written, writeErr := strconv.ParseInt(fields[9], 10, 64)
		if err := errors.Join(readErr, writeErr); err != nil {
			return 0, err
		}
		total += 512 * (read + written)
	}
	return total, nil
}

// warmDisk writes so much to the node's disk once. That is a file with holes, whose first writes take several times as long as all later ones.
func warmDisk(mib int) error {
	path := filepath.Join(home, "warm")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for range mib {
		if _, err := file.Write(block); err != nil {
			return errors.Join(err, file.Close(), os.Remove(path))
		}
	}
	return errors.Join(file.Sync(), file.Close(), os.Remove(path))
}

// endContainer kills the first process of a container of containerd's.
func endContainer(ctx context.Context, id string) error {
	output, err := runtime{runcProgram, "/run/containerd/runc/k8s.io"}.command(ctx, "state", id).Output()
	if err != nil {
		return fmt.Errorf("runc state %s: %w", id, err)
	}
	var state struct{ PID int }
	if err := json.Unmarshal(output, &state); err != nil {
		return err
	}
	if state.PID <= 1 {
		return fmt.Errorf("container %s has process %d", id, state.PID)
	}
	return syscall.Kill(state.PID, syscall.SIGKILL)
}
