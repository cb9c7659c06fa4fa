package engine

import (
	"os/exec"
	"testing"
	"time"
)

func TestDescendantsAreFoundAndKilled(t *testing.T) {
	command := exec.Command("sh", "-c", "sleep 1000 & wait")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = command.Process.Kill(), command.Wait() }()
	for end := time.Now().Add(5 * time.Second); len(descendants(command.Process.Pid)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child is not found")
		}
	}
	if found := descendants(command.Process.Pid); len(found) != 1 || found[0].parent != command.Process.Pid {
		t.Errorf("found %+v, want one child of %d", found, command.Process.Pid)
	}
	killDescendants(command.Process.Pid)
	if err := command.Wait(); err != nil {
		t.Errorf("the parent, which waits for its child, ended with %v", err)
	}
}
