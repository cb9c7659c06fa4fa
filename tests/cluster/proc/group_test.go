package proc

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newGroup(t *testing.T) (*Group, string) {
	t.Helper()
	dir := t.TempDir()
	logs, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = logs.Close() })
	g := NewGroup(logs, NewReaper())
	t.Cleanup(func() {
		for _, status := range g.Statuses() {
			if err := g.Do(status.Name, "stop"); err != nil {
				t.Error(err)
			}
		}
	})
	return g, dir
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("not after 10 s: %s", what)
}

func only(t *testing.T, g *Group) Status {
	t.Helper()
	statuses := g.Statuses()
	if len(statuses) != 1 {
		t.Fatalf("there are %d components", len(statuses))
	}
	return statuses[0]
}

func TestAComponentThatDiesIsStartedAgainAndItsOutputKept(t *testing.T) {
	g, dir := newGroup(t)
	g.Add(Component{Name: "dies", Argv: []string{"/bin/sh", "-c", "echo again; exit 3"}})
	eventually(t, "two restarts", func() bool { return only(t, g).Restarts >= 2 })
	if got := only(t, g).LastExit; got != "exit status 3" {
		t.Errorf("its last exit is %q", got)
	}
	log, err := os.ReadFile(filepath.Join(dir, "dies.log"))
	if err != nil || strings.Count(string(log), "again\n") < 2 {
		t.Errorf("its log is %q, %v", log, err)
	}
}

func TestAComponentThatCannotStartSaysWhy(t *testing.T) {
	g, _ := newGroup(t)
	g.Add(Component{Name: "absent", Argv: []string{"/does/not/exist"}})
	eventually(t, "a reason", func() bool { return strings.Contains(only(t, g).LastExit, "no such file") })
	if got := only(t, g).State; got != Backoff {
		t.Errorf("its state is %q", got)
	}
}

func TestStopStartKillRestart(t *testing.T) {
	g, _ := newGroup(t)
	g.Add(Component{Name: "sleeps", Argv: []string{"/bin/sleep", "1000"}})
	running := func() bool { return only(t, g).State == Running }
	eventually(t, "it runs", running)
	first := only(t, g)
	for _, verb := range []string{"kill", "restart"} {
		if err := g.Do("sleeps", verb); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it runs after "+verb, func() bool { return running() && only(t, g).PID != first.PID })
		first = only(t, g)
	}
	for _, at := range []struct{ verb, state string }{{"pause", "T"}, {"resume", "S"}} {
		if err := g.Do("sleeps", at.verb); err != nil {
			t.Fatal(err)
		}
		eventually(t, "after "+at.verb+" it is in state "+at.state, func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", first.PID))
			return err == nil && strings.Contains(string(stat), ") "+at.state+" ")
		})
	}
	if err := g.Do("sleeps", "stop"); err != nil {
		t.Fatal(err)
	}
	if got := only(t, g); got.State != Stopped || got.PID != 0 {
		t.Errorf("stopped, it is %+v", got)
	}
	if err := g.Do("sleeps", "kill"); err == nil {
		t.Error("what does not run cannot be killed")
	}
	time.Sleep(2 * firstBackoff)
	if got := only(t, g); got.State != Stopped {
		t.Errorf("a stopped component came back: %+v", got)
	}
	g.StartAll()
	eventually(t, "it runs after StartAll", running)
}

func TestAComponentThatIgnoresTERMIsKilledAfterItsGrace(t *testing.T) {
	g, dir := newGroup(t)
	g.Add(Component{Name: "deaf", Argv: []string{"/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"}, Grace: 200 * time.Millisecond})
	eventually(t, "it is deaf", func() bool {
		log, err := os.ReadFile(filepath.Join(dir, "deaf.log"))
		return err == nil && strings.Contains(string(log), "ready")
	})
	began := time.Now()
	if err := g.Do("deaf", "stop"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if got := only(t, g).LastExit; got != "signal: killed" {
		t.Errorf("its last exit is %q", got)
	}
}

func TestBeforeAndStartedGuardEachStart(t *testing.T) {
	g, _ := newGroup(t)
	refusals, started := 2, make(chan int, 10)
	g.Add(Component{Name: "guarded", Argv: []string{"/bin/sleep", "1000"},
		Before: func() error {
			if refusals--; refusals >= 0 {
				return fmt.Errorf("not yet")
			}
			return nil
		},
		Started: func(pid int) error { started <- pid; return nil },
	})
	eventually(t, "it runs", func() bool { return only(t, g).State == Running })
	if got := only(t, g); got.Restarts != 2 || <-started != got.PID {
		t.Errorf("it is %+v", got)
	}
}

func TestASupervisorAnswersOnItsSocket(t *testing.T) {
	g, dir := newGroup(t)
	g.Add(Component{Name: "sleeps", Argv: []string{"/bin/sleep", "1000"}})
	socket := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g.Handler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	client := Client{Socket: socket}
	for path, want := range map[string]string{
		"/components/sleeps/restart": "",
		"/components/sleeps/dance":   `verb is "dance"; it may be one of ["stop" "start" "kill" "restart" "pause" "resume"]`,
		"/components/nobody/stop":    `component is "nobody"; it may be one of ["sleeps"]`,
	} {
		got := ""
		if err := client.Call(t.Context(), http.MethodPost, path, nil, nil); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s answers %q, want %q", path, got, want)
		}
	}
	var statuses []Status
	if err := client.Call(t.Context(), http.MethodGet, "/components", nil, &statuses); err != nil || len(statuses) != 1 {
		t.Errorf("the components are %+v, %v", statuses, err)
	}
}
