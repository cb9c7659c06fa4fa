package lab

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// death are the words with which a kernel says on its serial line that it has come to an end.
var death = []string{"Oops: ", "Kernel panic - ", "BUG: unable to handle"}

// NoteDeadKernels writes to the file that TEST_DEAD_KERNELS names, if it names one, which of the cluster's virtual machines' kernels have died, and of what.
// Under emulation on several threads they do, about once in ten runs, whatever runs in them; a test that fails then has shown nothing. Whoever runs the tests
// may run them again for that.
func NoteDeadKernels(ctx context.Context, name string) {
	file := os.Getenv("TEST_DEAD_KERNELS")
	if file == "" {
		return
	}
	var said strings.Builder
	for number := 1; ; number++ {
		node := fmt.Sprintf("worker-%d", number)
		log, err := Localcluster(ctx, name, "logs", node)
		if err != nil {
			break
		}
		if line := lastWords(log); line != "" {
			fmt.Fprintf(&said, "node %s: %s\n", node, line)
		}
	}
	if said.Len() == 0 {
		return
	}
	if err := os.WriteFile(file, []byte(said.String()), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// lastWords is the first line in a serial log that tells of the kernel's death, or nothing.
func lastWords(log string) string {
	for line := range strings.Lines(log) {
		for _, words := range death {
			if strings.Contains(line, words) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}
