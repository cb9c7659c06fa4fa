package proc

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"sync"
	"syscall"
	"time"
)

// Component is one program that a Group keeps running.
type Component struct {
	Name string
	Argv []string
	// Env is added to the environment of the supervisor.
	Env []string
	// Grace is how long the program may take to end at a stop before it is killed; zero means 10 s.
	Grace time.Duration
	// PowerCut makes a stop a KILL without a warning.
	PowerCut bool
	// EndsItself says of a program that ends with status 0 that it is not to be started again, as of a machine that somebody switched off from within.
	EndsItself bool
	// Cloneflags are the namespaces that the program gets for itself (clone(2)).
	Cloneflags uintptr
	// Before runs before each start of the program, Started right after it.
	Before  func() error
	Started func(pid int) error
	// Killed runs after a KILL of the program, and helps it to its end.
	Killed func()
}

// Status says how a component is.
type Status struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// PID is the process id as the machine sees it; 0 while the component does not run.
	PID      int       `json:"pid"`
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"`
	LastExit string    `json:"lastExit,omitempty"`
}

// The states of a component.
const (
	Running = "Running"
	Stopped = "Stopped" // by request
	Backoff = "Backoff" // died, about to be started again
)

// Verbs are what Do understands.
var Verbs = []string{"stop", "start", "kill", "restart", "pause", "resume"}

// Group is a set of components under one supervisor.
type Group struct {
	logs *os.Root
	mu   sync.Mutex
	all  map[string]*member
	reap *Reaper
}

// NewGroup returns an empty group that writes the output of component NAME to NAME.log in logs.
func NewGroup(logs *os.Root, reaper *Reaper) *Group {
	return &Group{logs: logs, all: map[string]*member{}, reap: reaper}
}

// Add begins to keep a component running. Adding a name twice changes nothing.
func (g *Group) Add(c Component) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.all[c.Name]; ok {
		return
	}
	m := newMember(c, g.logs, g.reap)
	g.all[c.Name] = m
	go m.run()
}

// Do carries out a verb on the component of that name. stop returns when the process has ended; the others at once.
func (g *Group) Do(name, verb string) error {
	g.mu.Lock()
	m, ok := g.all[name]
	names := g.names()
	g.mu.Unlock()
	if !ok {
		return fmt.Errorf("component is %q; it may be one of %q", name, names)
	}
	switch verb {
	case "stop":
		m.stop()
	case "start":
		m.start()
	case "restart":
		m.stop()
		m.start()
	case "kill":
		return m.kill()
	case "pause":
		return m.signal(syscall.SIGSTOP)
	case "resume":
		return m.signal(syscall.SIGCONT)
	default:
		return fmt.Errorf("verb is %q; it may be one of %q", verb, Verbs)
	}
	return nil
}

// StartAll starts whatever was stopped by request.
func (g *Group) StartAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.all {
		m.start()
	}
}

// Statuses returns the state of every component, by name.
func (g *Group) Statuses() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	statuses := make([]Status, 0, len(g.all))
	for _, m := range g.all {
		statuses = append(statuses, m.status())
	}
	slices.SortFunc(statuses, func(a, b Status) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return statuses
}

func (g *Group) names() []string {
	names := make([]string, 0, len(g.all))
	for name := range g.all {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
