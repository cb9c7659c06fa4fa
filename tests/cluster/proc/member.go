package proc

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	firstBackoff = 300 * time.Millisecond
	lastBackoff  = 5 * time.Second
	// healthyAfter is how long a program must have run for its death to count as the first of a series.
	healthyAfter = 10 * time.Second
	defaultGrace = 10 * time.Second
	maxLogBytes  = 64 << 20
)

// member is one component and the process that runs it at the moment, if any.
type member struct {
	component Component
	logs      *os.Root
	reap      *Reaper
	wake      chan struct{}

	mu       sync.Mutex
	want     bool
	process  *os.Process
	ended    chan struct{} // closed when process has been waited for
	restarts int
	since    time.Time
	lastExit string
}

func newMember(c Component, logs *os.Root, reap *Reaper) *member {
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	return &member{component: c, logs: logs, reap: reap, want: true, since: time.Now(), wake: make(chan struct{}, 1)}
}

// run is the life of a component; it ends with its supervisor.
func (m *member) run() {
	backoff := firstBackoff
	for {
		m.awaitWanted()
		started := time.Now()
		if err := m.runOnce(); err != nil {
			m.note(err)
		}
		if time.Since(started) > healthyAfter {
			backoff = firstBackoff
		}
		select {
		case <-m.wake:
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

func (m *member) awaitWanted() {
	for {
		m.mu.Lock()
		want := m.want
		m.mu.Unlock()
		if want {
			return
		}
		<-m.wake
	}
}

// runOnce starts the program and waits for its end.
func (m *member) runOnce() error {
	log, err := m.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(m.component.Argv[0], m.component.Argv[1:]...)
	command.Env = append(os.Environ(), m.component.Env...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: m.component.Cloneflags}
	if m.component.Before != nil {
		if err := m.component.Before(); err != nil {
			return err
		}
	}
	if err := m.launch(command); err != nil || command.Process == nil {
		return err
	}
	if m.component.Started != nil {
		if err := m.component.Started(command.Process.Pid); err != nil {
			fmt.Fprintf(log, "supervisor: %v\n", err)
			_ = command.Process.Kill()
		}
	}
	_ = command.Wait() // how it ended is in the ProcessState
	m.reap.forget(command.Process.Pid)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.ended)
	m.process, m.since = nil, time.Now()
	m.lastExit = command.ProcessState.String()
	if m.component.EndsItself && command.ProcessState.Success() {
		m.want = false
	}
	if m.want {
		m.restarts++
	}
	return nil
}

// launch starts the command unless a stop came in the meantime; then it leaves command.Process nil.
func (m *member) launch(command *exec.Cmd) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.want {
		return nil
	}
	if err := m.reap.start(command); err != nil {
		return fmt.Errorf("start %s: %w", m.component.Name, err)
	}
	m.process, m.ended, m.since = command.Process, make(chan struct{}), time.Now()
	return nil
}

func (m *member) note(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastExit, m.since = err.Error(), time.Now()
	m.restarts++
}

// openLog opens the component's log for appending; a large one is put aside first, as NAME.log.1.
func (m *member) openLog() (*os.File, error) {
	name := m.component.Name + ".log"
	if info, err := m.logs.Stat(name); err == nil && info.Size() > maxLogBytes {
		if err := m.logs.Rename(name, name+".1"); err != nil {
			return nil, err
		}
	}
	return m.logs.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fs.FileMode(0o644))
}

func (m *member) stop() {
	m.mu.Lock()
	m.want = false
	process, ended := m.process, m.ended
	m.mu.Unlock()
	if process == nil {
		return
	}
	if !m.component.PowerCut {
		_ = process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ended:
			return
		case <-time.After(m.component.Grace):
		}
	}
	_ = process.Kill()
	m.killed()
	<-ended
}

func (m *member) killed() {
	if m.component.Killed != nil {
		m.component.Killed()
	}
}

func (m *member) start() {
	m.mu.Lock()
	m.want = true
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// signal sends one that the program cannot take, as to pause and to resume it.
func (m *member) signal(signal syscall.Signal) error {
	m.mu.Lock()
	process := m.process
	m.mu.Unlock()
	if process == nil {
		return fmt.Errorf("component %q does not run", m.component.Name)
	}
	return process.Signal(signal)
}

// kill ends the process without a warning; as it is still wanted, it is started again.
func (m *member) kill() error {
	m.mu.Lock()
	process, ended := m.process, m.ended
	m.mu.Unlock()
	if process == nil {
		return fmt.Errorf("component %q does not run", m.component.Name)
	}
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill component %q: %w", m.component.Name, err)
	}
	m.killed()
	<-ended
	return nil
}

func (m *member) status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	status := Status{Name: m.component.Name, State: Backoff, Restarts: m.restarts, Since: m.since, LastExit: m.lastExit}
	switch {
	case m.process != nil:
		status.State, status.PID = Running, m.process.Pid
	case !m.want:
		status.State = Stopped
	}
	return status
}
