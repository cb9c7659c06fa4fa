package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// restore tells whether the container was restored. A decision serves one create of each container, unless it says more (design R6). When it was not, there is
// a result that says why; without one the create fails, as a cold start would be a silent one. It fails as well when the decision refuses a cold start; then
// every create tries again.
func (f *front) restore(e *engine.Engine, c *engine.Container, values map[string]string) (bool, error) {
	decision, err := f.node.Decision(c.Pod.UID)
	if errors.Is(err, fs.ErrNotExist) { // the sandbox is from before
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if decision.Restarts > 0 {
		return f.restoreInLine(e, c, decision, values)
	}
	return f.restoreBy(e, c, decision, 0, values)
}

// restoreBy does what a decision says, for the so-many-th time that the container has ended.
func (f *front) restoreBy(e *engine.Engine, c *engine.Container, decision *capture.Decision, again int, values map[string]string) (bool, error) {
	if !decision.Restores(c.Name) {
		return false, nil
	}
	result, err := f.node.Result(c.Pod.UID, c.Name)
	fallback := decision.Fallback
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case again > 0:
		fallback = capture.StartCold // it has run: this is more than what the policy insists on
	case result.Outcome == capture.Restored:
		return false, nil
	case !decision.Refuses(result):
		return false, nil
	case result.Consumed && !decision.Begins: // what it was restored from may have run, and is used up
		return false, fmt.Errorf("%s: %s", capture.Refusal(decision.Policy), result.Message)
	}
	var more []string
	if socket := values["console-socket"]; socket != "" {
		more = append(more, "--console-socket", socket)
	}
	c.Restored = true
	if err := engine.Remember(f.node, c); err != nil { // a stop signal may come before this call has returned
		return false, err
	}
	own := ""
	if decision.Own {
		own = decision.Checkpoint
	}
	others := slices.DeleteFunc(slices.Clone(decision.Containers), func(name string) bool { return name == c.Name })
	err = e.Restore(context.Background(), engine.RestoreOptions{
		Container: c, Directory: decision.Directory, Kept: decision.Kept, Compatibility: decision.Compatibility, Fallback: fallback, Others: others,
		More: more, Attempts: decision.Attempts, Again: again, Own: own,
	})
	if err == nil && (len(others) > 0 || e.HasHooks(c.Pod.UID)) {
		if err := f.detach("release", c.Pod.UID); err != nil { // the agent sees to it
			e.Log("wait for the other containers and run hooks: %v", err)
		}
	}
	if err == nil {
		return true, nil
	}
	c.Restored = false
	if fallback == capture.Refuse {
		return false, errors.Join(fmt.Errorf("%s: %w", capture.Refusal(decision.Policy), err), engine.Forget(f.node, c.ID))
	}
	if _, resultErr := f.node.Result(c.Pod.UID, c.Name); resultErr != nil {
		return false, errors.Join(err, resultErr)
	}
	return false, nil
}
