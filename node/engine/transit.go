package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CRIU cannot dump some things that are on their way from one process to another and arrive within a moment, when the other one runs.
const (
	transitTries = 5
	transitPause = 50 * time.Millisecond
)

// transits are parts of what CRIU says of such things.
var transits = []string{
	"Non-empty write queue on an in-flight socket", // a Unix connection that is about to be accepted
	"Found a closed in-flight socket",              // one that whoever made it has closed meanwhile
	"Control messages in queue",                    // credentials that are about to be received
}

func inTransit(err error) bool {
	var refusal *CRIUError
	if !errors.As(err, &refusal) {
		return false
	}
	for _, what := range transits {
		if strings.Contains(refusal.Error(), what) {
			return true
		}
	}
	return false
}

// goOnFor lets the pod run for a moment and freezes it again, as if nothing had been dumped.
func (a *attempt) goOnFor(ctx context.Context, pause time.Duration) error {
	a.takeBack()
	if err := a.thaw(ctx); err != nil {
		return err
	}
	time.Sleep(pause)
	a.record.Containers, a.record.Failure = nil, nil
	for _, what := range []string{"containers", "log"} {
		if err := os.RemoveAll(filepath.Join(a.dir, what)); err != nil {
			return err
		}
	}
	return a.freeze(ctx)
}
