package engine

import (
	"context"
	"errors"
	"time"
)

const (
	// lastMoments are left to a process for its stop signal, however long its preStop hook takes; kubelet grants the same.
	lastMoments = 2 * time.Second
	// killInterval is how often we look whether a KILL came while hooks run.
	killInterval = 20 * time.Millisecond
)

// uncapturedHint is the runtime's note on a pod whose capture failed while it was stopped: its other containers, whose stop signals come later,
// are not captured either. Half a pod is worth nothing.
const uncapturedHint = "uncaptured"

// stop gives the members that are not captured what kubelet meant for them, each for itself: the preStop hook that admission took out, then the
// stop signal. Both, and the capture that was tried before, take from the same grace period. At its end kubelet's KILL comes, and ends the hook.
func (a *attempt) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	stopped := make(chan error, len(a.members))
	for _, m := range a.members {
		go func() {
			a.runHooks(ctx, m)
			stopped <- a.engine.pay(ctx, m.Container)
		}()
	}
	var all error
	for left := len(a.members); left > 0; {
		select {
		case err := <-stopped:
			all = errors.Join(all, err)
			left--
		case <-time.After(killInterval): // of one whose hook is behind it, while those of others run
			for _, m := range a.members {
				if _, came := a.owed.kill(m.ID); came {
					all = errors.Join(all, a.engine.pay(ctx, m.Container))
				}
			}
		}
	}
	return all
}

// runHooks runs the preStop hook of a member that has got a stop signal, once.
func (a *attempt) runHooks(ctx context.Context, m member) {
	signal, stopping := a.owed.stop(m.ID)
	if _, killed := a.owed.kill(m.ID); !stopping || killed {
		return
	}
	end := signal.Came.Add(time.Duration(m.Settings.GracePeriodSeconds)*time.Second - lastMoments)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, killed := a.owed.kill(m.ID); killed {
				cancel()
			}
			time.Sleep(killInterval)
		}
	}()
	for _, hook := range m.Settings.PreStop {
		if hook.Container != m.Name || ctx.Err() != nil || !a.owed.beginHook(m.ID) {
			continue
		}
		began := time.Now()
		if err := m.runHook(ctx, hook); err != nil {
			a.engine.Log("preStop hook of container %q, after %s: %v", m.Name, time.Since(began), err)
			continue
		}
		a.engine.Log("ran the preStop hook of container %q in %s", m.Name, time.Since(began))
	}
}
