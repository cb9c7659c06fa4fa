package install

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// handler is one of ours: a copy of one that the node has, with our program before its own.
type handler struct {
	// name is that of the handler, variant what makes it differ from that of the default one: the name of the one that it copies, or nothing.
	name, variant string
	// below is the program of the one that it copies.
	below string
	table map[string]any
}

// program is what a variant calls on the node: ours, by a name that says for which.
func programOf(home, variant string) string {
	name := capture.RuntimeProgram
	if variant != "" {
		name += "-" + variant
	}
	return path.Join(home, "bin", name)
}

// The sections of containerd's configuration that have the handlers: from version 3 on, which is that of containerd 2.0, and in version 2.
const (
	criPlugin    = "io.containerd.cri.v1.runtime"
	oldCRIPlugin = "io.containerd.grpc.v1.cri"
)

// runcShim is the runtime_type of the handlers that call an OCI runtime.
const runcShim = "io.containerd.runc.v2"

// sectionOf is the one that a configuration as containerd dumps it has: that tells which containerd it is.
func sectionOf(config map[string]any) string {
	if table(config, "plugins", criPlugin) == nil && table(config, "plugins", oldCRIPlugin) != nil {
		return oldCRIPlugin
	}
	return criPlugin
}

// deriveHandlers copies the default handler, and every other that calls an OCI runtime, from a configuration as containerd dumps it. The copies differ in
// their program and in the annotations that they see. The default one's is first.
func deriveHandlers(config map[string]any, home string) ([]handler, error) {
	section := sectionOf(config)
	containerd := table(config, "plugins", section, "containerd")
	first, _ := containerd["default_runtime_name"].(string)
	runtimes := table(containerd, "runtimes")
	if table(runtimes, first) == nil {
		return nil, fmt.Errorf("plugins.'%s'.containerd.default_runtime_name is %q, and runtimes has no such table", section, first)
	}
	if kind, _ := table(runtimes, first)["runtime_type"].(string); kind != runcShim {
		return nil, fmt.Errorf("runtimes.%s.runtime_type is %q; it may be %s", first, kind, runcShim)
	}
	found := []handler{copyHandler(table(runtimes, first), "", home)}
	for _, name := range slices.Sorted(maps.Keys(runtimes)) {
		kind, _ := table(runtimes, name)["runtime_type"].(string)
		if name != first && kind == runcShim && !keys.IsRuntimeClass(name) {
			found = append(found, copyHandler(table(runtimes, name), name, home))
		}
	}
	return found, nil
}

func copyHandler(original map[string]any, variant, home string) handler {
	h := handler{name: keys.RuntimeClass, variant: variant, table: maps.Clone(original)}
	if variant != "" {
		h.name += "-" + variant
	}
	options := maps.Clone(table(original, "options"))
	if options == nil {
		options = map[string]any{}
	}
	if h.below, _ = options["BinaryName"].(string); h.below == "" {
		h.below = "runc"
	}
	options["BinaryName"] = programOf(home, variant)
	h.table["options"] = options
	seen, _ := original["pod_annotations"].([]any)
	if !slices.Contains(seen, any("memverge.ai/*")) {
		seen = append(slices.Clone(seen), "memverge.ai/*")
	}
	h.table["pod_annotations"] = seen
	return h
}

// table returns a table inside a configuration; nil when it is not there.
func table(config map[string]any, path ...string) map[string]any {
	for _, name := range path {
		config, _ = config[name].(map[string]any)
	}
	return config
}

// render writes tables as TOML, each with its full name and in the order of their names, so that it can stand behind any other TOML.
func render(out *bytes.Buffer, name string, t map[string]any) error {
	values, below := map[string]any{}, map[string]map[string]any{}
	for key, value := range t {
		if inner, is := value.(map[string]any); is {
			below[key] = inner
		} else if value != nil {
			values[key] = value
		}
	}
	if len(values) > 0 || len(below) == 0 {
		text, err := toml.Marshal(values)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "[%s]\n%s\n", name, text)
	}
	for _, key := range slices.Sorted(maps.Keys(below)) {
		if err := render(out, name+"."+quote(key), below[key]); err != nil {
			return err
		}
	}
	return nil
}

// quote makes a key fit to stand in the name of a table.
func quote(key string) string {
	bare := strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
	switch {
	case bare && key != "":
		return key
	case strings.Contains(key, "'"):
		return fmt.Sprintf("%q", key)
	}
	return "'" + key + "'"
}

// renderHandlers writes handlers as a part of containerd's configuration of that version.
func renderHandlers(version int64, handlers map[string]map[string]any) ([]byte, error) {
	section := criPlugin
	if version < 3 {
		section = oldCRIPlugin
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		if err := render(&out, "plugins.'"+section+"'.containerd.runtimes."+quote(name), handlers[name]); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
