package install

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// crioDropIn is our part of CRI-O's configuration. Of several files the last one counts, in the order of their names.
const crioDropIn = "/etc/crio/crio.conf.d/99-transparent-checkpoint.conf"

// crioNeedsRunc is what to do where CRI-O knows no other runtime than crun, its default.
const crioNeedsRunc = "the default runtime of CRI-O is %q (%s), and it knows no other; it may be runc: install that and name it in [crio.runtime.runtimes.runc]"

// deriveCRIOHandlers copies handlers from CRI-O's configuration. The first copy is that of the default one, or, where that is no runc, of the handler
// called runc. A runtime_path that is empty stands for a program by the handler's name. CRI-O shows a handler all annotations of its pods; the
// annotations that it has to be allowed are those that change what CRI-O itself does.
func deriveCRIOHandlers(config map[string]any, home string, isRunc func(program string) bool) ([]handler, error) {
	runtime := table(config, "crio", "runtime")
	runtimes := table(runtime, "runtimes")
	first, _ := runtime["default_runtime"].(string)
	if table(runtimes, first) == nil {
		return nil, fmt.Errorf("crio.runtime.default_runtime is %q, and runtimes has no such table", first)
	}
	standsFor := first
	if !isRunc(crioProgram(runtimes, first)) {
		if first = "runc"; table(runtimes, first) == nil || !isRunc(crioProgram(runtimes, first)) {
			return nil, fmt.Errorf(crioNeedsRunc, standsFor, crioProgram(runtimes, standsFor))
		}
	}
	found := []handler{copyCRIOHandler(runtimes, first, "", home)}
	for _, name := range slices.Sorted(maps.Keys(runtimes)) {
		if name != first && !keys.IsRuntimeClass(name) && isRunc(crioProgram(runtimes, name)) {
			found = append(found, copyCRIOHandler(runtimes, name, name, home))
		}
	}
	return found, nil
}

// crioProgram is that of a handler; empty for one of another kind than OCI runtimes.
func crioProgram(runtimes map[string]any, name string) string {
	kind, _ := table(runtimes, name)["runtime_type"].(string)
	if kind != "" && kind != "oci" {
		return ""
	}
	if program, _ := table(runtimes, name)["runtime_path"].(string); program != "" {
		return program
	}
	return name
}

func copyCRIOHandler(runtimes map[string]any, name, variant, home string) handler {
	h := handler{name: keys.RuntimeClass, variant: variant, below: crioProgram(runtimes, name), table: map[string]any{}}
	if variant != "" {
		h.name += "-" + variant
	}
	for key, value := range table(runtimes, name) {
		if text, is := value.(string); !is || text != "" { // what is not said stays unsaid
			h.table[key] = value
		}
	}
	delete(h.table, "inherit_default_runtime") // it would bring the default one's program back
	h.table["runtime_path"] = programOf(home, variant)
	return h
}

// renderCRIO writes handlers as a part of CRI-O's configuration.
func renderCRIO(handlers []handler) ([]byte, error) {
	out := bytes.NewBufferString(fileBegins + "\n")
	for _, h := range handlers {
		if err := render(out, "crio.runtime.runtimes."+quote(h.name), h.table); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// crio is the CRI-O of a node.
type crio struct{ process }

func (c *crio) name() string { return "CRI-O" }

// config is the configuration with which it runs.
func (c *crio) config(ctx context.Context) (config map[string]any, err error) {
	output, err := c.ask(ctx, c.program, "status", "config")
	if err != nil {
		return nil, fmt.Errorf("read the configuration of CRI-O: %w", err)
	}
	return config, toml.Unmarshal(output, &config)
}

func (c *crio) handlers(ctx context.Context, home string) ([]handler, error) {
	config, err := c.config(ctx)
	if err != nil {
		return nil, err
	}
	isRunc := func(program string) bool {
		path, err := c.lookUp(program)
		return program != "" && err == nil && c.checkRuntime(ctx, path) == nil
	}
	found, err := deriveCRIOHandlers(config, home, isRunc)
	if err != nil {
		return nil, fmt.Errorf("configuration of CRI-O: %w", err)
	}
	for i := range found {
		if found[i].below, err = c.lookUp(found[i].below); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (c *crio) targets(_ context.Context, _ configuration, handlers []handler) ([]target, error) {
	text, err := renderCRIO(handlers)
	return []target{{path: crioDropIn, own: text}}, err
}

// wouldServe has CRI-O check the files that it would read.
func (c *crio) wouldServe(ctx context.Context, _ []handler) error {
	if _, err := c.ask(ctx, c.program, "config"); err != nil {
		return fmt.Errorf("CRI-O would not take %s: %w", crioDropIn, err)
	}
	return nil
}
