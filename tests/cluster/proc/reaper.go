package proc

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Reaper collects the processes that fall to the supervisor when their parents die, which is the duty of a process 1. The children
// that its groups started are left to those who wait for them; a process 1 must start no others once it has a Reaper.
type Reaper struct {
	mu  sync.Mutex
	own map[int]bool
}

// NewReaper returns the one reaper of this process; it does nothing where the process is not process 1.
func NewReaper() *Reaper {
	r := &Reaper{own: map[int]bool{}}
	if os.Getpid() == 1 {
		go r.run()
	}
	return r
}

// start starts a command whose end its caller will wait for.
func (r *Reaper) start(command *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := command.Start(); err != nil {
		return err
	}
	r.own[command.Process.Pid] = true
	return nil
}

func (r *Reaper) forget(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.own, pid)
}

func (r *Reaper) run() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for range died {
		r.collect()
		time.Sleep(100 * time.Millisecond) // many die together
	}
}

func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || r.own[pid] || !isOurZombie(pid) {
			continue
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // another's child answers ECHILD
	}
}

// isOurZombie reads state and parent from /proc/PID/stat, whose second field may hold spaces and parentheses.
func isOurZombie(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	stat := string(data)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return len(fields) > 1 && fields[0] == "Z" && fields[1] == "1"
}
