package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// callCRIU has CRIU dump a frozen container, with what it needs to be told, and makes its images complete.
func (a *attempt) callCRIU(ctx context.Context, m member, images, work string) error {
	oci, options := m.OCI(), filepath.Join(work, "watches.conf")
	if watches, err := watchOptions(options, m); err != nil {
		return fmt.Errorf("watched files: %w", err)
	} else if watches {
		oci.CRIUOptions = options
	}
	stopped, err := m.group.letSeize()
	if err == nil {
		err = oci.checkpoint(ctx, m.ID, images, work)
	}
	if err = errors.Join(err, stopAgain(stopped)); err != nil {
		return err
	}
	if err := a.relink(m, images); err != nil {
		return err
	}
	return errors.Join(markStopped(images, stopped), nameCalls(images, m.group))
}

// takeBack removes what a dump that is void has left in the file systems of the containers.
func (a *attempt) takeBack() {
	if a.dir != "" {
		a.engine.unlink(a.dir)
	}
	a.links = nil
}
