package engine

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// as runs work in a thread that may do to files what the first process of a container may: with its user, its groups and its capabilities, as the kernel
// sees it. So nothing is read or written on behalf of a container that it could not read or write itself. The thread ends with it.
func as(rights *capture.Security, work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread is not used again
		if err := become(rights); err != nil {
			done <- fmt.Errorf("take the rights of user %d: %w", rights.UID, err)
			return
		}
		done <- work()
	}()
	return <-done
}

// become gives the calling thread, and no other, the rights of a container. Its real user stays root's, so that no process of the container's user may
// signal it.
func become(rights *capture.Security) error {
	groups := append([]uint32{rights.GID}, rights.Groups...)
	// unix.Setgroups would be for all threads.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return errno
	}
	for _, set := range []struct {
		call func(int) (int, error)
		id   uint32
	}{{unix.SetfsgidRetGid, rights.GID}, {unix.SetfsuidRetUid, rights.UID}} {
		if _, err := set.call(int(set.id)); err != nil {
			return err
		}
		if now, err := set.call(-1); err != nil || uint32(now) != set.id { // the call itself does not say that it was refused
			return unix.EPERM
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for word, mask := range effective(rights) {
		sets[word].Effective = sets[word].Permitted & mask
	}
	return unix.Capset(&header, &sets[0])
}

// effective are the capabilities with which the first process of a container begins, as the kernel's two words: a program that is not root's keeps the
// ambient ones alone (capabilities(7)).
func effective(rights *capture.Security) (words [2]uint32) {
	set := "effective"
	if rights.UID != 0 {
		set = "ambient"
	}
	for _, name := range rights.Capabilities[set] {
		if bit := slices.Index(capabilityNames, name); bit >= 0 {
			words[bit/32] |= 1 << (bit % 32)
		}
	}
	return words
}
