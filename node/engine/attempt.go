package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
)

// attempt restores the container: from the state of the decision, as often as that says, and then from the one before. It ends early when an instruction
// may have run, and when there is no time for another try. After an error nothing of what was tried is left.
func (r *restoration) attempt(ctx context.Context) error {
	for {
		r.tries++
		began := time.Now()
		err := r.run(ctx)
		if err == nil {
			return nil
		}
		r.took = time.Since(began)
		undone := r.undo()
		err = errors.Join(err, undone)
		if undone != nil || r.result.Consumed || ctx.Err() != nil {
			return err
		}
		if r.mayHelp(ctx, err) {
			r.engine.Log("container %q: attempt %d failed, and the restore is begun again: %v", r.Container.Name, r.tries, err)
			continue
		}
		back, backErr := r.goBack(err)
		if backErr != nil || !back {
			return errors.Join(err, backErr)
		}
	}
}

// mayHelp tells whether to try the same once more.
func (r *restoration) mayHelp(ctx context.Context, err error) bool {
	if isForGood(err) || r.tries >= cmp.Or(r.Attempts, capture.DefaultAttempts) {
		return false
	}
	end, bounded := ctx.Deadline()
	return !bounded || time.Until(end) > r.took
}

// isForGood tells whether a restore from the same state in the same container cannot succeed.
func isForGood(err error) bool {
	var (
		follows  *followsError
		rights   *MismatchError
		machines *compat.Mismatch
		lost     *lostFileError
	)
	return errors.Is(err, errLost) || errors.As(err, &lost) || errors.As(err, &follows) || errors.As(err, &rights) || errors.As(err, &machines)
}

// goBack has the container, and those of its pod that are still to come, be restored from the state before; false when there is none, or when another
// container has gone on from the later one already.
func (r *restoration) goBack(why error) (bool, error) {
	node, uid := r.engine.Node, r.Container.Pod.UID
	d, err := node.Decision(uid)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (d.Previous == nil || r.Again > 0 || !node.HasStates(d)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	found, err := r.companions()
	if err != nil || len(found.coming) < len(r.Others) {
		return false, err
	}
	d.GoBack(why.Error())
	if err := node.Redecide(uid, d); err != nil {
		return false, fmt.Errorf("go back to Checkpoint %s: %w", d.Checkpoint, err)
	}
	r.engine.Log("container %q goes back to Checkpoint %s: %s was not restored: %v", r.Container.Name, d.Checkpoint, d.GivenUp.Checkpoint, why)
	r.Directory, r.Kept, r.tries = d.Directory, d.Kept, 0
	return true, nil
}
