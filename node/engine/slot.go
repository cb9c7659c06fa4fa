package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// How many pods of a node are captured at once, and how many containers restored: as many as it has processors, within these bounds. Both are
// bound by processor and disk; more at once would keep each one standing still for longer, and the last would not be done sooner.
const (
	fewestAtOnce = 2
	mostAtOnce   = 8
)

// restoreTurnPatience is how long a restore waits for its turn. It is a part of restorePatience, since the call that the restore is part of has its
// own end; after it the restore goes on beside the others.
const restoreTurnPatience = 30 * time.Second

// turns are places of a node for one kind of work: a file for each, held by flock, so that the place of a process that was killed is free.
type turns struct {
	dir   string
	count int
}

func turnsOf(node capture.Node, kind string) turns {
	return turns{dir: filepath.Join(node.Root, "run/checkpoint/turns", kind), count: max(fewestAtOnce, min(mostAtOnce, runtime.NumCPU()))}
}

// try returns a place, or nil when none is free.
func (t turns) try() (*podLock, error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	for i := range t.count {
		place, err := lockFile(filepath.Join(t.dir, fmt.Sprint(i)), 0)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return place, err
		}
	}
	return nil, nil
}

// await waits for a place as long as goOn says so, and returns nil when it does not. Where places cannot be had at all, the work is worth more than its bound.
func (t turns) await(log func(string, ...any), goOn func() bool) *podLock {
	for {
		place, err := t.try()
		if err != nil {
			log("no turn: %v", err)
			return nil
		}
		if place != nil || !goOn() {
			return place
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitTurn waits for the pod's turn to be captured. It is not frozen meanwhile, and its program goes on working. The place may be nil: the pod cannot
// wait any longer. When it turns out that the signal means one container alone, there is nothing to wait for, and goes is false.
func (a *attempt) awaitTurn(ctx context.Context) (place *podLock, goes bool) {
	began := time.Now()
	goes = true
	known := false
	place = turnsOf(a.engine.Node, "capture").await(a.engine.Log, func() bool {
		if !known {
			_, known = a.evidence()
		}
		goes = known || time.Since(began) <= evidencePatience
		return goes && ctx.Err() == nil && !a.isUrgent()
	})
	if waited := time.Since(began); waited > time.Second && goes {
		a.engine.Log("waited %s for its turn", waited.Round(time.Millisecond))
	}
	a.started = time.Now()
	a.members = slices.DeleteFunc(a.members, func(m member) bool { // it may have ended by itself
		_, alive := m.Container.pid()
		return !alive
	})
	return place, goes
}

// isUrgent tells whether half of the time has passed for which the pod's KILL is held back: a state is worth more than a bound.
func (a *attempt) isUrgent() bool {
	for _, m := range a.members {
		if kill, came := a.owed.kill(m.ID); came && time.Since(kill.Came) > killPatience/2 {
			return true
		}
	}
	return false
}

// awaitTurn waits for the container's turn to be restored. The place is nil when it comes too late.
func (r *restoration) awaitTurn(ctx context.Context) *podLock {
	began := time.Now()
	place := turnsOf(r.engine.Node, "restore").await(r.engine.Log, func() bool {
		return ctx.Err() == nil && time.Since(began) < restoreTurnPatience
	})
	if waited := time.Since(began); waited > time.Second {
		r.engine.Log("container %q waited %s for its turn", r.Container.Name, waited.Round(time.Millisecond))
	}
	return place
}
