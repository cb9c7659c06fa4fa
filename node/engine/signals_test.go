package engine

import "testing"

func TestNamesOfSignals(t *testing.T) {
	for name, want := range map[string]string{
		"15": "SIGTERM", "SIGTERM": "SIGTERM", "term": "SIGTERM", "3": "SIGQUIT", "28": "SIGWINCH", "34": "SIGRTMIN", "37": "SIGRTMIN+3", "64": "SIGRTMIN+30",
		"99": "99",
	} {
		if got := (Signal{Name: name}).String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]bool{"9": true, "KILL": true, "SIGKILL": true, "15": false, "SIGTERM": false} {
		if got := (Signal{Name: name}).IsKill(); got != want {
			t.Errorf("%s is KILL: %t", name, got)
		}
	}
}
