package runtime

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// restoreInLine is restore where containers that have ended are restored again. It takes the new container into the line of those of its name, until it is
// restored or begins from scratch, which begins another line.
func (f *front) restoreInLine(e *engine.Engine, c *engine.Container, d *capture.Decision, values map[string]string) (bool, error) {
	uid, name := c.Pod.UID, c.Name
	line, err := f.node.Line(uid, name)
	isFirst := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isFirst {
		return false, err
	}
	again, why := 0, error(nil)
	if !isFirst {
		d, again, why = f.again(e, c, line, d)
	}
	line.Containers = append(line.Containers, c.ID)
	if err := f.node.SetLine(uid, name, *line); err != nil {
		return false, err
	}
	if why == nil && (again > 0 || !line.Afresh) {
		restored, err := f.restoreBy(e, c, d, again, values)
		if restored || err != nil {
			return restored, err
		}
		if result, err := f.node.Result(uid, name); again > 0 && err == nil {
			why = fmt.Errorf("what Checkpoint %s has was not restored: %s", d.Checkpoint, result.Message)
		}
	}
	afresh := capture.Line{Containers: []string{c.ID}, Afresh: true, Why: line.Why}
	if why != nil {
		afresh.Why = why.Error()
		e.Log("container %q is not restored again: %v", name, why)
	}
	return false, f.node.SetLine(uid, name, afresh)
}

// again returns what a container that is created again, as it has ended, is restored from, and how many times it is with this time; 0 when it was not
// restored before, and nothing but the decision counts. The error says why it is not, though there is something.
func (f *front) again(e *engine.Engine, c *engine.Container, line *capture.Line, d *capture.Decision) (*capture.Decision, int, error) {
	if why, paused := f.node.IsPaused(); paused {
		return d, 0, errors.New(why)
	}
	own, found, err := e.TakeOwn(c, line)
	if err != nil {
		return d, 0, err
	}
	if own.Own && !found && line.Afresh && len(line.Containers) == 1 { // that state is from before it began from scratch
		return own, 0, nil
	}
	result, err := f.node.Result(c.Pod.UID, c.Name)
	times := 0
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return own, 0, err
	case own.Own && (err != nil || result.Own != own.Checkpoint):
		times = 1
	case own.Own || err == nil && result.Outcome == capture.Restored && !line.Afresh:
		times = result.Again + 1
	default:
		return own, 0, nil
	}
	switch {
	case times > own.Restarts:
		return own, 0, fmt.Errorf("it has been restored from Checkpoint %s %d times, and containerRestarts of RestorePolicy %s is %d",
			own.Checkpoint, own.Restarts, own.Policy, own.Restarts)
	case !f.node.HasStates(own):
		return own, 0, errors.New("the node went down since its state was brought to it")
	}
	return own, times, e.PrepareAgain(c)
}
