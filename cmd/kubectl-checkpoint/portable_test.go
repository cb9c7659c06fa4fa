package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A person has kubectl on a machine of any kind: what only Linux' kernel is asked for must not be in the program there. That it is compiled for those takes
// minutes, so only the imports are looked at.
func TestItIsForOtherSystemsToo(t *testing.T) {
	for _, system := range []string{"darwin", "windows"} {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{.ImportPath}} {{.Imports}}`, ".")
		list.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		output, err := list.Output()
		if err != nil {
			t.Fatal(system, err)
		}
		for line := range strings.Lines(string(output)) {
			ours := strings.HasPrefix(line, "github.com/transparent-checkpoint/operator/")
			if ours && (strings.Contains(line, "golang.org/x/sys/unix") || strings.Contains(line, " syscall")) {
				t.Errorf("on %s: %s", system, line)
			}
		}
	}
}
