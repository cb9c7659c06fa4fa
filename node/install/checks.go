package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// The headings that say what to do.
const (
	mendPlatform = "docs/installation.md#platforms"
	mendKernel   = "docs/operations.md#when-criu-refuses"
)

// checkTime bounds one question to a program of the node.
const checkTime = 30 * time.Second

// Checks tell how it stands with what is installed on the node, and with what that works with. They change nothing, and need of the Installer its Node, From
// and Host, and the name of its pod.
func (i *Installer) Checks(ctx context.Context) []inspect.Check {
	runtime, err := i.runtime(ctx)
	if err != nil {
		return []inspect.Check{{
			Name: "container runtime", Level: inspect.Fail, Says: err.Error(), Mend: "see that it runs; --cri-socket of the agent names its socket, " + mendPlatform,
		}}
	}
	found := inspect.Check{Name: "container runtime", Level: inspect.OK}
	if found.Says, err = runtime.version(ctx); err != nil {
		found = inspect.Check{Name: "container runtime", Level: inspect.Fail, Says: err.Error(), Mend: mendPlatform}
	}
	checks := []inspect.Check{found, i.checkHandlers(ctx, runtime), i.checkPrograms(runtime)}
	config, err := capture.ReadRuntimeConfig(i.nodeAt(runtime).Home())
	if err != nil {
		return append(checks, inspect.Check{Name: "runtime.json", Level: inspect.Fail, Says: err.Error(), Mend: i.mendByAgent()})
	}
	program := filepath.Join(config.CRIUDirectory, "criu")
	return append(checks, i.checkOCIRuntime(ctx, runtime, config.Runtime), i.checkCRIU(ctx, runtime, program), checkKernel(ctx, runtime, program),
		checkRights(runtime))
}

// mendByAgent: what is broken on a node the agent writes anew, once a minute.
func (i *Installer) mendByAgent() string {
	return fmt.Sprintf("the agent mends it within a minute, or says why not: kubectl logs -n %s %s", i.Pod.Namespace, i.Pod.Name)
}

// checkHandlers asks the container runtime whether it serves what the RuntimeClass names.
func (i *Installer) checkHandlers(ctx context.Context, runtime containerRuntime) inspect.Check {
	c := inspect.Check{Name: "handler", Level: inspect.OK}
	handlers, err := runtime.handlers(ctx, i.home())
	if err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, err.Error(), mendPlatform
		return c
	}
	served, err := runtime.serves(ctx)
	if err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, err.Error(), mendPlatform
		return c
	}
	var names, missing []string
	for _, h := range handlers {
		names = append(names, h.name)
		if !slices.Contains(served, h.name) {
			missing = append(missing, h.name)
		}
	}
	c.Says = runtime.name() + " serves " + strings.Join(names, ", ")
	if len(missing) > 0 {
		c.Level, c.Mend = inspect.Fail, i.mendByAgent()
		c.Says = runtime.name() + " does not serve " + strings.Join(missing, ", ") + ": labelled pods cannot start on this node"
	}
	return c
}

// checkPrograms compares what lies on the node with what the agent's image brings.
func (i *Installer) checkPrograms(runtime containerRuntime) inspect.Check {
	c := inspect.Check{Name: "programs", Level: inspect.OK}
	p := placement{from: i.From, root: runtime.root(), home: i.home()}
	programs, version, err := p.programs()
	if err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, err.Error(), i.mendByAgent()
		return c
	}
	has, err := os.Readlink(filepath.Join(p.root, p.home, current))
	switch {
	case i.nodeAt(runtime).IsRetired():
		c.Level, c.Says, c.Mend = inspect.Fail, "the operator was removed from this node: its pods are not captured", "docs/installation.md#uninstall"
		return c
	case err != nil || filepath.Base(has) != version:
		c.Level, c.Says, c.Mend = inspect.Fail, fmt.Sprintf("%s does not have the version %s of this agent", p.home, version), i.mendByAgent()
		return c
	}
	c.Says = fmt.Sprintf("version %s in %s", version, p.home)
	var changed []string
	for _, program := range programs {
		path := filepath.Join(p.home, capture.Versions, version, program.path)
		on, err := os.ReadFile(filepath.Join(p.root, path))
		if err != nil || string(on) != string(program.content) {
			changed = append(changed, path)
		}
	}
	if len(changed) > 0 {
		c.Level, c.Says, c.Mend = inspect.Fail, "these files are not as they were installed: "+strings.Join(changed, ", "), i.mendByAgent()
	}
	return c
}

// checkOCIRuntime asks the program before which ours stands.
func (i *Installer) checkOCIRuntime(ctx context.Context, runtime containerRuntime, program string) inspect.Check {
	c := inspect.Check{Name: "OCI runtime", Level: inspect.OK}
	says, err := ask(ctx, runtime, program, "--version")
	if err == nil {
		err = isRunc(program, says)
	}
	if err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, err.Error(), mendPlatform
		return c
	}
	first, _, _ := strings.Cut(says, "\n")
	c.Says = fmt.Sprintf("%s is %s", program, first)
	return c
}

// ask runs a program of the node, for a bounded time, and returns all that it writes.
func ask(ctx context.Context, runtime containerRuntime, program string, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return runtime.says(ctx, program, words...)
}

// checkCRIU has CRIU check the kernel for all that it needs.
func (i *Installer) checkCRIU(ctx context.Context, runtime containerRuntime, program string) inspect.Check {
	c := inspect.Check{Name: "CRIU", Level: inspect.OK}
	version, err := ask(ctx, runtime, program, "--version")
	if err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, fmt.Sprintf("%s: %v: %s", program, err, lastLine(version)), i.mendByAgent()
		return c
	}
	_, version, _ = strings.Cut(strings.TrimSpace(firstLine(version)), ": ")
	says, err := ask(ctx, runtime, program, "check")
	if err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, fmt.Sprintf("criu check of CRIU %s: %s", version, problemIn(says, err)), mendKernel
		return c
	}
	c.Says = fmt.Sprintf("%s is %s; criu check: %s", program, version, lastLine(says))
	return c
}

// unused are features of a kernel that CRIU misses, and that captures and restores of the operator do without.
var unused = []string{"Hardware breakpoints", "kdat cache", "Dirty tracking"}

// checkKernel has CRIU check the kernel for what some programs need.
func checkKernel(ctx context.Context, runtime containerRuntime, program string) inspect.Check {
	c := inspect.Check{Name: "kernel features", Level: inspect.OK, Says: "the kernel has all that CRIU may need"}
	says, err := ask(ctx, runtime, program, "check", "--extra")
	if err == nil {
		return c
	}
	var missing []string
	for line := range strings.Lines(says) {
		_, text, is := strings.Cut(line, "): ")
		isUnused := slices.ContainsFunc(unused, func(known string) bool { return strings.Contains(text, known) })
		if is && !isUnused && (strings.HasPrefix(line, "Warn") || strings.HasPrefix(line, "Error")) {
			missing = append(missing, strings.TrimSpace(text))
		}
	}
	if len(missing) > 0 {
		c.Level, c.Says, c.Mend = inspect.Warn, "programs that use it cannot be captured or restored: "+strings.Join(missing, " "), mendKernel
	}
	return c
}

// needed are the capabilities without which CRIU cannot work, and wanted those without which some programs cannot be captured.
var (
	needed = map[string]int{"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN}
	wanted = map[string]int{"CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE}
)

// checkRights looks at what the kernel lets the container runtime do, and so what it starts.
func checkRights(runtime containerRuntime) inspect.Check {
	c := inspect.Check{Name: "rights of root", Level: inspect.OK, Says: "the kernel gives root all that CRIU needs"}
	has, err := runtime.capabilities()
	if err != nil {
		c.Level, c.Says = inspect.Warn, "the capabilities of the container runtime cannot be read: "+err.Error()
		return c
	}
	lacks := func(of map[string]int) (names []string) {
		for name, bit := range of {
			if has&(1<<bit) == 0 {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	if missing := lacks(needed); len(missing) > 0 {
		c.Level, c.Mend = inspect.Fail, "give the container runtime of the node all capabilities"
		c.Says = "the container runtime lacks " + strings.Join(missing, ", ") + ", without which nothing can be captured"
	} else if missing := lacks(wanted); len(missing) > 0 {
		c.Level = inspect.Warn
		c.Mend = "use nodes whose kernel gives root all capabilities, or a criu that does without (--criu-directory of the agent, docs/local-cluster.md#criu)"
		c.Says = "the container runtime lacks " + strings.Join(missing, ", ") + ": CRIU may not ask for the limits of processes of other users, and cannot raise any"
	}
	return c
}

// problemIn is CRIU's first error line, or else how it ended.
func problemIn(says string, err error) string {
	if lines := criu.ErrorLines(strings.NewReader(says), 1); len(lines) > 0 {
		return lines[0]
	}
	if line := lastLine(says); line != "" {
		return line
	}
	return err.Error()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}
