package install

import (
	"context"
	"fmt"
	"reflect"

	"github.com/pelletier/go-toml/v2"
)

// containerd is that of a node, be it its own or that of k3s or RKE2.
type containerd struct{ process }

func (c *containerd) name() string { return "containerd" }

// configPath is the main file that it was started with.
func (c *containerd) configPath() string {
	return c.option("/etc/containerd/config.toml", "-c", "--config", "-config")
}

// dump returns the configuration that it would have if it started now from the main file path.
func (c *containerd) dump(ctx context.Context, path string) (config map[string]any, err error) {
	output, err := c.ask(ctx, c.program, "--config", path, "config", "dump")
	if err != nil {
		return nil, fmt.Errorf("read the configuration of containerd: %w", err)
	}
	return config, toml.Unmarshal(output, &config)
}

func (c *containerd) handlers(ctx context.Context, home string) ([]handler, error) {
	config, err := c.dump(ctx, c.configPath())
	if err != nil {
		return nil, err
	}
	found, err := deriveHandlers(config, home)
	if err != nil {
		return nil, fmt.Errorf("configuration of containerd (%s): %w", c.configPath(), err)
	}
	var fit []handler
	for _, h := range found {
		h.below, err = c.lookUp(h.below)
		if err == nil {
			err = c.checkRuntime(ctx, h.below)
		}
		if err != nil && h.variant == "" {
			return nil, err
		}
		if err == nil {
			fit = append(fit, h)
		}
	}
	return fit, nil
}

func (c *containerd) targets(ctx context.Context, files configuration, handlers []handler) ([]target, error) {
	dump, err := c.dump(ctx, c.configPath())
	if err != nil {
		return nil, err
	}
	l := layout{path: c.configPath(), dump: dump}
	if l.text, err = files.without(l.path); err != nil {
		return nil, err
	}
	return register(l, handlers)
}

// wouldServe: what k3s and RKE2 make of their template is not to be seen before they have.
func (c *containerd) wouldServe(ctx context.Context, handlers []handler) error {
	config, err := c.dump(ctx, c.configPath())
	if err != nil {
		return err
	}
	if isGenerated(c.configPath()) {
		return nil
	}
	runtimes := table(config, "plugins", sectionOf(config), "containerd", "runtimes")
	first, _ := table(config, "plugins", sectionOf(config), "containerd")["default_runtime_name"].(string)
	if table(runtimes, first) == nil {
		return fmt.Errorf("containerd would have lost its default handler %q", first)
	}
	for _, h := range handlers {
		if has, _ := table(runtimes, h.name, "options")["BinaryName"].(string); !reflect.DeepEqual(any(has), table(h.table, "options")["BinaryName"]) {
			return fmt.Errorf("containerd would not have the handler %s: look for another file with that name, and at imports in %s", h.name, c.configPath())
		}
	}
	return nil
}
