package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

const (
	// dropIn is our part of containerd's configuration, which imports that folder.
	dropIn = "etc/containerd/conf.d/transparent-checkpoint.toml"
	// ourRuntime is the program that the handler calls, as the node sees it.
	ourRuntime = "/opt/checkpoint/bin/checkpoint-runtime"
)

// Containerd is the process that serves a node's container runtime interface.
type Containerd struct {
	socket string
	pid    int
}

// onHost returns a command that runs with the root file system of containerd.
func (c *Containerd) onHost(ctx context.Context, words ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Path, command.Err = words[0], nil // it is found there, not here
	command.Dir = "/"
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: fmt.Sprintf("/proc/%d/root", c.pid)}
	return command
}

// dump returns the configuration that containerd would read if it started now, and the path of its main file.
func (c *Containerd) dump(ctx context.Context) (config map[string]any, path string, err error) {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.pid))
	if err != nil {
		return nil, "", err
	}
	program = strings.TrimSuffix(program, " (deleted)")
	path = c.configPath()
	output, err := c.onHost(ctx, program, "--config", path, "config", "dump").Output()
	if err != nil {
		return nil, path, fmt.Errorf("read the configuration of containerd: %w%s", err, stderrOf(err))
	}
	return config, path, toml.Unmarshal(output, &config)
}

func stderrOf(err error) string {
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		return ": " + strings.TrimSpace(string(ended.Stderr))
	}
	return ""
}

// configPath is the main file that containerd was started with.
func (c *Containerd) configPath() string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.pid))
	words := strings.Split(string(data), "\x00")
	for i, word := range words {
		name, value, bound := strings.Cut(word, "=")
		if name != "-c" && name != "--config" && name != "-config" {
			continue
		}
		if bound {
			return value
		}
		if i+1 < len(words) {
			return words[i+1]
		}
	}
	return "/etc/containerd/config.toml"
}

// Handler is what makes our runtime a handler beside the node's default one.
type Handler struct {
	// Runtime is the program of the default handler, before which ours stands.
	Runtime string
	// DropIn is our part of the configuration.
	DropIn []byte
}

// Handler derives our handler from the default one.
func (c *Containerd) Handler(ctx context.Context) (*Handler, error) {
	config, path, err := c.dump(ctx)
	if err != nil {
		return nil, err
	}
	version, err := c.versionOf(path)
	if err != nil {
		return nil, err
	}
	handler, err := deriveHandler(config, version)
	if err != nil {
		return nil, fmt.Errorf("configuration of containerd (%s): %w", path, err)
	}
	if !filepath.IsAbs(handler.Runtime) {
		if handler.Runtime, err = c.find(handler.Runtime); err != nil {
			return nil, err
		}
	}
	says, err := c.onHost(ctx, handler.Runtime, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask the OCI runtime %s for its version: %w%s", handler.Runtime, err, stderrOf(err))
	}
	return handler, checkRuntime(handler.Runtime, string(says))
}

// checkRuntime returns an error unless an OCI runtime says that it is runc, or something before runc: pods of others cannot be captured. crun calls CRIU
// with words, images and a library of its own.
func checkRuntime(path, says string) error {
	for line := range strings.Lines(says) {
		if strings.HasPrefix(line, "runc version") {
			return nil
		}
	}
	first, _, _ := strings.Cut(says, "\n")
	return fmt.Errorf("the OCI runtime of the default handler is %s, which says %q; it may be runc, or a program before it", path, first)
}

// versionOf returns the version of the main file, which a drop-in must not exceed; a node without one has the newest.
func (c *Containerd) versionOf(path string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(fmt.Sprintf("/proc/%d/root", c.pid), path))
	if errors.Is(err, os.ErrNotExist) {
		return 3, nil
	}
	var file struct {
		Version int64 `toml:"version"`
	}
	if err == nil {
		err = toml.Unmarshal(data, &file)
	}
	if err == nil && file.Version < 3 {
		err = fmt.Errorf("the version of %s is %d; it may be 3 or more, that of containerd 2.0", path, file.Version)
	}
	return min(file.Version, 3), err
}

// find looks a program up in the folders in which containerd would.
func (c *Containerd) find(name string) (string, error) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if path := filepath.Join(dir, name); c.sees(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the OCI runtime %q is in no folder of the node's PATH", name)
}

// sees tells whether there is a program of that path on the node, of which the agent's own file system shows little.
func (c *Containerd) sees(path string) bool {
	info, err := os.Stat(filepath.Join(fmt.Sprintf("/proc/%d/root", c.pid), path))
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

// criPlugin is the section of the configuration that has the handlers, from containerd 2.0 on.
const criPlugin = "io.containerd.cri.v1.runtime"

// deriveHandler copies the table of the default handler and changes its program and the annotations that it sees.
func deriveHandler(config map[string]any, version int64) (*Handler, error) {
	containerd := table(config, "plugins", criPlugin, "containerd")
	name, _ := containerd["default_runtime_name"].(string)
	original := table(containerd, "runtimes", name)
	if original == nil {
		return nil, fmt.Errorf("plugins.'%s'.containerd.default_runtime_name is %q, and runtimes has no such table", criPlugin, name)
	}
	if kind, _ := original["runtime_type"].(string); kind != "io.containerd.runc.v2" {
		return nil, fmt.Errorf("runtimes.%s.runtime_type is %q; it may be io.containerd.runc.v2", name, kind)
	}
	handler := maps.Clone(original)
	options := maps.Clone(table(original, "options"))
	if options == nil {
		options = map[string]any{}
	}
	below, _ := options["BinaryName"].(string)
	if below == "" {
		below = "runc"
	}
	options["BinaryName"] = ourRuntime
	handler["options"] = options
	seen, _ := original["pod_annotations"].([]any)
	if !slices.Contains(seen, any("memverge.ai/*")) {
		seen = append(slices.Clone(seen), "memverge.ai/*")
	}
	handler["pod_annotations"] = seen
	var text bytes.Buffer
	text.WriteString("# Written by checkpoint-agent: a copy of the default handler with our runtime before its own.\n")
	err := toml.NewEncoder(&text).Encode(map[string]any{"version": version, "plugins": map[string]any{
		criPlugin: map[string]any{"containerd": map[string]any{"runtimes": map[string]any{keys.RuntimeClass: handler}}},
	}})
	return &Handler{Runtime: below, DropIn: text.Bytes()}, err
}

// table returns a table inside a configuration; nil when it is not there.
func table(config map[string]any, path ...string) map[string]any {
	for _, name := range path {
		config, _ = config[name].(map[string]any)
	}
	return config
}

// WouldServe tells why containerd would not have the handler after a restart: its main file does not import our folder.
func (c *Containerd) WouldServe(ctx context.Context) error {
	config, path, err := c.dump(ctx)
	if err != nil {
		return err
	}
	options := table(config, "plugins", criPlugin, "containerd", "runtimes", keys.RuntimeClass, "options")
	if name, _ := options["BinaryName"].(string); name != ourRuntime {
		return fmt.Errorf("containerd does not read /%s: add imports = ['/etc/containerd/conf.d/*.toml'] to the top of %s", dropIn, path)
	}
	return nil
}

// OlderThan tells whether containerd started before a file was written, so that it does not know it.
func (c *Containerd) OlderThan(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		return false, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return false, fmt.Errorf("/proc/%d/stat has %d fields", c.pid, len(fields))
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64) // since boot, 100 a second
	if err != nil {
		return false, err
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return false, err
	}
	age := time.Duration(boot.Nano()) - time.Duration(ticks)*10*time.Millisecond
	return time.Since(info.ModTime()) < age-time.Second, nil
}

// Serves tells whether containerd has the handler.
func (c *Containerd) Serves(ctx context.Context) bool {
	connection, err := grpc.NewClient("unix://"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, err := cri.NewRuntimeServiceClient(connection).Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(status.RuntimeHandlers, func(h *cri.RuntimeHandler) bool { return h.Name == keys.RuntimeClass })
}

// Restart has containerd start anew; running pods are not touched by that. Where systemd is at work it is asked, elsewhere whoever looks after
// the process starts another when it ends.
func (c *Containerd) Restart(ctx context.Context) error {
	if unit := c.unit(); unit != "" {
		if output, err := c.onHost(ctx, "/usr/bin/systemctl", "restart", unit).CombinedOutput(); err != nil {
			return fmt.Errorf("restart %s: %w: %s", unit, err, bytes.TrimSpace(output))
		}
		return nil
	}
	if err := unix.Kill(c.pid, unix.SIGTERM); err != nil {
		return fmt.Errorf("end containerd: %w", err)
	}
	for range 300 {
		if err := unix.Kill(c.pid, 0); errors.Is(err, unix.ESRCH) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("containerd does not end")
}

// unit is the systemd unit of containerd; empty where there is no systemd.
func (c *Containerd) unit() string {
	if name, err := os.ReadFile("/proc/1/comm"); err != nil || strings.TrimSpace(string(name)) != "systemd" {
		return ""
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(groups)) {
		for name := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if strings.HasSuffix(name, ".service") {
				return name
			}
		}
	}
	return ""
}
