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
	if err != nil || !decision.Restores(c.Name) {
		return false, err
	}
	result, err := f.node.Result(c.Pod.UID, c.Name)
	again, fallback := 0, decision.Fallback
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case result.Outcome == capture.Restored:
		if !f.restoresAgain(e, c, decision, result) {
			return false, nil
		}
		again, fallback = result.Again+1, capture.StartCold // it has been restored: this is more than what the policy insists on
	case !decision.Refuses(result):
		return false, nil
	case result.Consumed: // what it was restored from may have run, and is used up
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
	others := slices.DeleteFunc(slices.Clone(decision.Containers), func(name string) bool { return name == c.Name })
	err = e.Restore(context.Background(), engine.RestoreOptions{
		Container: c, Directory: decision.Directory, Compatibility: decision.Compatibility, Fallback: fallback, Others: others, More: more,
		Attempts: decision.Attempts, Again: again,
	})
	if err == nil && len(others) > 0 {
		if err := f.detach("release", c.Pod.UID); err != nil { // the agent sees to it
			e.Log("wait for the other containers: %v", err)
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

// restoresAgain tells whether a container that was restored, and has ended, is restored again from the same state.
func (f *front) restoresAgain(e *engine.Engine, c *engine.Container, d *capture.Decision, r *capture.Result) bool {
	if r.Afresh || r.Again >= d.Restarts {
		return false
	}
	err := error(nil)
	if !f.node.HasStates(d) {
		err = errors.New("the node went down since its state was brought to it")
	} else {
		err = e.PrepareAgain(c)
	}
	if err == nil {
		return true
	}
	e.Log("container %q is not restored again: %v", c.Name, err)
	r.Afresh = true // what it does from now on is not undone by a later restart
	if err := capture.WriteJSON(f.node.ResultFile(c.Pod.UID, c.Name), r); err != nil {
		e.Log("%v", err)
	}
	return false
}
