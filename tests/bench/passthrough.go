package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// passthroughTimes is how long a call takes.
type passthroughTimes struct {
	Ours      time.Duration `json:"ours"`
	Reference time.Duration `json:"reference"`
}

const calls = 40

// measureCalls asks for the state of a small container, through our runtime and of the one behind it in turn, and returns the medians.
func measureCalls(ctx context.Context) (_ *passthroughTimes, err error) {
	node := capture.Node{Root: "/"}
	config, err := capture.ReadRuntimeConfig(node.Home())
	if err != nil {
		return nil, err
	}
	c := &raw{id: "bench-calls", bundle: filepath.Join(home, "calls"), runtime: runtime{config.Runtime, runcRoot}}
	c.remove(ctx)
	defer c.remove(context.WithoutCancel(ctx))
	if err := c.makeBundle(1); err != nil {
		return nil, err
	}
	if _, err := c.launch(ctx, "run", "--detach", "--bundle", c.bundle, c.id); err != nil {
		return nil, err
	}
	var ours, reference []time.Duration
	for range calls {
		for program, all := range map[string]*[]time.Duration{filepath.Join(node.Home(), "bin/checkpoint-runtime"): &ours, config.Runtime: &reference} {
			began := time.Now()
			if output, err := (runtime{program, runcRoot}).command(ctx, "state", c.id).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%s state: %w: %s", program, err, output)
			}
			*all = append(*all, time.Since(began))
		}
	}
	slices.Sort(ours)
	slices.Sort(reference)
	return &passthroughTimes{Ours: ours[calls/2], Reference: reference[calls/2]}, nil
}
