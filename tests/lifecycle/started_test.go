package lifecycle

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

const page = "docs/getting-started.md"

// TestGettingStarted copies the blocks of the page into a shell, all but the last, which ends the cluster: other tests go on with it.
func TestGettingStarted(t *testing.T) {
	if reason := lab.Unable(); reason != "" {
		t.Skip(reason)
	}
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := blocksOf(string(text))
	if err != nil || len(blocks) < 8 || blocks[len(blocks)-1].script != "make cluster-down\n" {
		t.Fatalf("%s has %d blocks, %v; the last should end the cluster", page, len(blocks), err)
	}
	began := time.Now()
	output := shell(t, root, scriptOf(page, blocks[:len(blocks)-1]))
	t.Logf("%s\nthe whole page took %s", output, time.Since(began).Round(time.Second))
	first, then, found := strings.Cut(output, "pod \"counter-")
	before, after := counts(t, first), counts(t, then)
	if !found || len(before) == 0 || len(after) == 0 || after[0] <= before[len(before)-1] {
		t.Errorf("the program counted %v, and %v in its next pod", before, after)
	}
	if !strings.Contains(then, "True: ") || !strings.Contains(then, "Completed") {
		t.Error("nothing says that it was restored")
	}
	c, err := lab.Connect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	nothingIsLeft(t, c)
}

// shell runs a script and returns what it printed; a failure ends the test.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-s")
	command.Dir, command.Stdin = dir, strings.NewReader(script)
	command.Env = append(install.WithoutMake(os.Environ()), "LOCALCLUSTER_NAME="+name)
	command.WaitDelay = 5 * time.Second
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

var counted = regexp.MustCompile(`I have counted to (\d+)`)

// counts are the numbers that the program has printed.
func counts(t *testing.T, text string) (numbers []int) {
	t.Helper()
	for _, match := range counted.FindAllStringSubmatch(text, -1) {
		number, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, number)
	}
	return numbers
}
