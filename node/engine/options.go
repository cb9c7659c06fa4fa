package engine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// asked are options of CRIU that differ from container to container.
type asked struct {
	// lines are those of a configuration file that CRIU reads before it hears of the OCI runtime's options, which overrule them.
	lines []string
	// words are those that the OCI runtime has to pass on, as it would tell CRIU "no" otherwise.
	words []string
}

// ways are how those options that may be asked for get to CRIU: "line" and "word", or nothing for what it is told in any case or does not need. Only these
// are passed on, whatever the settings say, since CRIU works with the rights of the node: action-script, plugin or config would run a program there.
type ways map[string]string

var (
	dumpWays = ways{
		"tcp-close": "line", "ext-unix-sk": "word", "shell-job": "word",
		"link-remap": "", "file-locks": "", "skip-in-flight": "", "tcp-established": "",
	}
	restoreWays = ways{"tcp-close": "line", "link-remap": "", "file-locks": "", "skip-in-flight": "", "tcp-established": ""}
	// lastingWays are those of a dump without which its images cannot be restored.
	lastingWays = ways{"tcp-close": "line", "ext-unix-sk": "word", "shell-job": "word"}
)

// String names the options.
func (w ways) String() string { return strings.Join(slices.Sorted(maps.Keys(w)), ", ") }

// add adds an option, unless it is there or is said anyway. False says that it may not be asked for.
func (a *asked) add(option string, by ways) bool {
	way, known := by[option]
	switch {
	case way == "line" && !slices.Contains(a.lines, option):
		a.lines = append(a.lines, option)
	case way == "word" && !slices.Contains(a.words, "--"+option):
		a.words = append(a.words, "--"+option)
	}
	return known
}

// stopPatience is for how many seconds CRIU waits for the processes of a container to stop. On a busy node its own 10 go by, and the state would be lost;
// one that a debugger holds never stops.
const stopPatience = 30

// dumpOptions are those of the dump of a container.
func (e *Engine) dumpOptions(settings capture.Settings, container string) asked {
	a := asked{lines: []string{fmt.Sprintf("timeout %d", stopPatience), fmt.Sprintf("ghost-limit %d", settings.GhostLimitOf(container))}}
	for _, option := range settings.OfContainers[container].CheckpointOptions {
		if _, is := capture.ParseGhostLimit(option); !is && !a.add(option, dumpWays) {
			e.Log("container %q: checkpointOptions has %q, which is left out; it may have ghost-limit BYTES, %s", container, option, dumpWays)
		}
	}
	return a
}

// restoreOptions are those of the restore of a container: what its new pod asks for, and what the dump was made with.
func (e *Engine) restoreOptions(now, captured capture.Settings, container string) asked {
	var a asked
	for _, option := range now.OfContainers[container].RestoreOptions {
		if !a.add(option, restoreWays) {
			e.Log("container %q: restoreOptions has %q, which is left out; it may have %s", container, option, restoreWays)
		}
	}
	for _, option := range captured.OfContainers[container].CheckpointOptions {
		a.add(option, lastingWays)
	}
	return a
}

// of returns the runtime with the lines in a file in the folder work for CRIU.
func (a asked) of(oci OCI, work string) (OCI, error) {
	if len(a.lines) == 0 {
		return oci, nil
	}
	oci.CRIUOptions = filepath.Join(work, "criu.conf")
	return oci, os.WriteFile(oci.CRIUOptions, []byte(strings.Join(a.lines, "\n")+"\n"), 0o600)
}
