package host

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// HasCapability tells whether this process, and so whatever it starts, has a capability such as unix.CAP_SYS_RESOURCE.
func HasCapability(capability int) (bool, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(data)) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return bits&(1<<capability) != 0, err
		}
	}
	return false, errors.New("/proc/self/status has no CapEff line")
}

// LoadModules loads the kernel modules that nothing else asks for by itself. Without br_netfilter, an answer from a pod that was called by
// way of a Service on its own node would not find back; without loop there may be no /dev/loop-control to ask for a device. Kernels that
// have them built in know no such modules.
func LoadModules() {
	_ = exec.Command("modprobe", "--quiet", "--all", "br_netfilter", "loop", "nf_conntrack", "overlay").Run()
}

// ListenerPID returns the id of the process that listens on a unix socket, as the caller's PID namespace sees it. The kernel keeps
// it with the socket, so it can be neither stale nor another process's.
func ListenerPID(socket string) (int, error) {
	connection, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	raw, err := connection.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var optionErr error
	err = raw.Control(func(fd uintptr) {
		credentials, optionErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, optionErr); err != nil {
		return 0, fmt.Errorf("peer of %s: %w", socket, err)
	}
	if credentials.Pid == 0 {
		return 0, fmt.Errorf("the process behind %s is not visible from here", socket)
	}
	return int(credentials.Pid), nil
}

// LoopDevicesOf returns the loop devices whose backing file lies below dir.
func LoopDevicesOf(dir string) ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var devices []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			continue // detached since
		}
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(data), dir+"/") {
			devices = append(devices, "/dev/"+strings.Split(file, "/")[3])
		}
	}
	return devices, nil
}

// MountsBelow returns the mount points below dir in the caller's mount namespace, innermost first.
func MountsBelow(dir string) ([]string, error) {
	file, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			points = append([]string{fields[1]}, points...)
		}
	}
	return points, lines.Err()
}

// Lock takes the advisory lock of a file, which is made if need be, and waits for it at most that long. The lock ends with the
// returned file or with the process.
func Lock(path string, patience time.Duration) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("lock %s (another command works on it): %w", path, err), file.Close())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
