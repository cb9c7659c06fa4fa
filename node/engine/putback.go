package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// returned is what a restore puts into volumes of a container, written down before the first of it is: so it can be taken out again, also by somebody
// who finds the restore cut off.
type returned struct {
	// Rights are those of the container, with which all of it is done.
	Rights  capture.Security `json:"rights"`
	Folders []returnedFolder `json:"folders"`
}

// returnedFolder is where one archive goes.
type returnedFolder struct {
	// Source is the folder of the volume on the node, and Path that of the files below it.
	Source string   `json:"source"`
	Path   string   `json:"path"`
	Names  []string `json:"names,omitempty"`
	// Made are folders that are not there yet, as paths below Source, an outer one before what is in it.
	Made []string `json:"made,omitempty"`
}

// returnedFile holds what was put into volumes for a container as long as that may have to be undone.
func returnedFile(node capture.Node, podUID, container string) string {
	return filepath.Join(node.Restores(podUID), "returned-"+container+".json")
}

// files puts back what was captured of volumes. It goes only where the new container may write itself, by its mounts and as its own user.
func (r *restoration) files(ctx context.Context, record *capture.Capture) error {
	i := slices.IndexFunc(record.Containers, func(c capture.Container) bool { return c.Name == r.Container.Name })
	if i < 0 || len(record.Containers[i].Files) == 0 {
		return nil
	}
	rights, err := securityOf(r.spec)
	if err != nil {
		return err
	}
	plan := returned{Rights: *rights}
	for _, kept := range record.Containers[i].Files {
		folder, err := r.place(kept, rights)
		if err != nil {
			return fmt.Errorf("files of %s: %w", kept.Folder, err)
		}
		plan.Folders = append(plan.Folders, folder)
	}
	if err := syncFile(r.engine.Node.ResultFile(r.Container.Pod.UID, r.Container.Name)); err != nil { // they may outlive a power cut
		return err
	}
	if err := capture.WriteJSON(returnedFile(r.engine.Node, r.Container.Pod.UID, r.Container.Name), plan); err != nil {
		return err
	}
	r.undos = append(r.undos, func() error { return r.engine.takeOut(r.Container.Pod.UID, r.Container.Name) })
	r.keeps = append(r.keeps, func() error { return r.engine.leaveIn(r.Container.Pod.UID, r.Container.Name) })
	for n, folder := range plan.Folders {
		archive, err := os.Open(filepath.Join(r.Directory, filesArchive(r.Container.Name, n)))
		if err == nil {
			err = plan.in(folder, true, func(x exchange) error { return x.swap(ctx, archive) })
			err = errors.Join(err, archive.Close())
		}
		if err != nil {
			return fmt.Errorf("files of %s: %w", record.Containers[i].Files[n].Folder, err)
		}
	}
	return nil
}

// place finds the volume of the new container in which a captured folder lies.
func (r *restoration) place(kept capture.Files, rights *capture.Security) (returnedFolder, error) {
	var mount *specs.Mount
	path := filepath.Clean(kept.Folder)
	for i := range r.spec.Mounts {
		m := &r.spec.Mounts[i]
		at := strings.TrimSuffix(filepath.Clean(m.Destination), "/")
		if (path == at || strings.HasPrefix(path, at+"/")) && (mount == nil || len(m.Destination) >= len(mount.Destination)) {
			mount = m
		}
	}
	if mount == nil || !isBind(*mount) {
		return returnedFolder{}, errors.New("the new container has no volume there")
	}
	if err := r.Container.mayBringBack(*mount); err != nil {
		return returnedFolder{}, err
	}
	inside, err := filepath.Rel(filepath.Clean(mount.Destination), path)
	folder := returnedFolder{Source: mount.Source, Path: inside, Names: kept.Names}
	for _, name := range kept.Names {
		if name == "." || name == ".." || strings.Contains(name, "/") || slices.Contains(ownFolders, name) {
			return folder, fmt.Errorf("a file has the name %q; it may be any of one folder but our own", name)
		}
	}
	if err == nil {
		folder.Made, err = missing(mount.Source, inside, rights)
	}
	return folder, err
}

// missing returns the folders on the way to a path that are not there.
func missing(source, path string, rights *capture.Security) (made []string, err error) {
	root, err := os.OpenFile(source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = as(rights, func() error {
		for at := path; at != "."; at = filepath.Dir(at) {
			folder, err := openInside(root, at)
			if err == nil {
				return folder.Close()
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			made = append([]string{at}, made...)
		}
		return nil
	})
	return made, err
}

// openInside opens a folder of a volume, by no link and in no other file system.
func openInside(root *os.File, path string) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(root.Fd()), path, how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// in works on a folder with the rights of the container. With create, what is missing on the way to it is made.
func (p *returned) in(f returnedFolder, create bool, work func(exchange) error) error {
	source, err := os.OpenFile(f.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	return as(&p.Rights, func() error {
		for _, path := range f.Made {
			if !create {
				break
			}
			parent, err := openInside(source, filepath.Dir(path))
			if err == nil {
				err = errors.Join(unix.Mkdirat(int(parent.Fd()), filepath.Base(path), 0o755), parent.Close())
			}
			if err != nil {
				return fmt.Errorf("make the folder %s: %w", path, err)
			}
		}
		folder, err := openInside(source, f.Path)
		if err != nil {
			return err
		}
		defer folder.Close()
		root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", folder.Fd()))
		if err != nil {
			return err
		}
		defer root.Close()
		isMade := len(f.Made) > 0 && len(f.Names) == 0
		return work(exchange{root: root, names: f.Names, whole: isMade})
	})
}

// remove removes the folders that were made, which are empty.
func (p *returned) remove(f returnedFolder) error {
	source, err := os.OpenFile(f.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	return as(&p.Rights, func() error {
		for _, path := range slices.Backward(f.Made) {
			parent, err := openInside(source, filepath.Dir(path))
			if err == nil {
				err = errors.Join(unix.Unlinkat(int(parent.Fd()), filepath.Base(path), unix.AT_REMOVEDIR), parent.Close())
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove the folder %s: %w", path, err)
			}
		}
		return nil
	})
}

// takeOut brings back what was in the volumes of a container before its restore.
func (e *Engine) takeOut(podUID, container string) error {
	return e.settleReturned(podUID, container, func(plan *returned, f returnedFolder) error {
		err := plan.in(f, false, exchange.undo)
		if errors.Is(err, fs.ErrNotExist) { // it was not made yet
			err = nil
		}
		return errors.Join(err, plan.remove(f))
	})
}

// leaveIn removes what was in the volumes of a container before its restore.
func (e *Engine) leaveIn(podUID, container string) error {
	return e.settleReturned(podUID, container, func(plan *returned, f returnedFolder) error { return plan.in(f, false, exchange.keep) })
}

// settleReturned does the same with all that was put into volumes for a container, the last of it first, and forgets it then.
func (e *Engine) settleReturned(podUID, container string, settle func(*returned, returnedFolder) error) error {
	file := returnedFile(e.Node, podUID, container)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	plan := &returned{}
	if err == nil && len(data) > 0 { // else a power cut was faster than the first step
		err = json.Unmarshal(data, plan)
	}
	for _, f := range slices.Backward(plan.Folders) {
		if settleErr := settle(plan, f); settleErr != nil {
			err = errors.Join(err, fmt.Errorf("files in volumes of container %q: %w", container, settleErr))
		}
	}
	if err != nil {
		return err
	}
	return removeFile(file)
}
