package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// Container is what the runtime remembers of a labelled pod's container from its create to its delete, in this boot: a file in
// capture.Node.Containers, named by the container's ID.
type Container struct {
	ID   string      `json:"id"`
	Name string      `json:"name"`
	Pod  capture.Pod `json:"pod"`
	// Sandbox is the ID of the pod's sandbox, which is the container's own for the sandbox itself.
	Sandbox  string           `json:"sandbox"`
	Bundle   string           `json:"bundle"`
	PIDFile  string           `json:"pidFile"`
	Image    string           `json:"image,omitempty"`
	Settings capture.Settings `json:"settings"`
	// Runtime and Global are those of the OCI runtime that made it.
	Runtime       string   `json:"runtime"`
	CRIUDirectory string   `json:"criuDirectory"`
	Global        []string `json:"global,omitempty"`
	// SpecDigest is the SHA-256 of its OCI spec.
	SpecDigest string `json:"specDigest,omitempty"`
	// Upper is the folder of its root file system's changes; empty where that is no overlay.
	Upper string `json:"upper,omitempty"`
	// Shm is the folder of the pod's /dev/shm; empty where it has none.
	Shm string `json:"shm,omitempty"`
	// Volumes are the emptyDirs of its pod: folders on the node by their names. Mounted are those that it mounts itself.
	Volumes map[string]string `json:"volumes,omitempty"`
	Mounted []string          `json:"mounted,omitempty"`
	// Own are its mounts whose content is made anew for every pod, as ConfigMaps and the hosts file: their sources by their destinations.
	Own map[string]string `json:"own,omitempty"`
	// Network and IPC are the files of the pod's namespaces.
	Network string `json:"network,omitempty"`
	IPC     string `json:"ipc,omitempty"`
	// Restored is true when it was restored instead of created, so that there is nothing to start.
	Restored bool `json:"restored,omitempty"`
}

// OCI returns the runtime that made the container.
func (c *Container) OCI() OCI {
	return OCI{Path: c.Runtime, CRIUDirectory: c.CRIUDirectory, Global: c.Global}
}

// IsSandbox tells whether it is the pod's sandbox.
func (c *Container) IsSandbox() bool { return c.ID == c.Sandbox }

// Selected tells whether it is captured and restored.
func (c *Container) Selected() bool { return !c.IsSandbox() && c.Settings.Selects(c.Name) }

// root returns the folder at which its root file system is mounted; empty where that cannot be told.
func (c *Container) root() string {
	spec, _, err := Bundle{c.Bundle}.Spec()
	if err != nil {
		return ""
	}
	root, err := rootOf(c.Bundle, spec)
	if err != nil {
		return ""
	}
	return root
}

// security returns what its spec allows it.
func (c *Container) security() (*capture.Security, error) {
	spec, _, err := Bundle{c.Bundle}.Spec()
	if err != nil {
		return nil, err
	}
	return securityOf(spec)
}

// Remember writes the record of a container.
func Remember(node capture.Node, c *Container) error {
	if err := os.MkdirAll(node.Containers(), 0o700); err != nil {
		return err
	}
	return capture.WriteJSON(recordOf(node, c.ID), c)
}

// Recall reads the record of a container; fs.ErrNotExist says that it is none of a labelled pod.
func Recall(node capture.Node, id string) (*Container, error) {
	data, err := os.ReadFile(recordOf(node, id))
	if err != nil {
		return nil, err
	}
	c := &Container{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read the record of container %q: %w", id, err)
	}
	return c, nil
}

// Forget removes the record of a container.
func Forget(node capture.Node, id string) error {
	if err := os.Remove(recordOf(node, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func recordOf(node capture.Node, id string) string {
	return filepath.Join(node.Containers(), filepath.Base(id)+".json")
}

// PodOf returns the pod of that UID: its UID alone where the runtime knows nothing of it.
func PodOf(node capture.Node, podUID string) capture.Pod {
	if all, err := containersOf(node, podUID); err == nil && len(all) > 0 {
		return all[0].Pod
	}
	return capture.Pod{UID: podUID}
}

// containersOf returns the records of a pod's containers, its sandbox among them.
func containersOf(node capture.Node, podUID string) ([]*Container, error) {
	files, err := filepath.Glob(filepath.Join(node.Containers(), "*.json"))
	if err != nil {
		return nil, err
	}
	var found []*Container
	for _, file := range files {
		c, err := Recall(node, strings.TrimSuffix(filepath.Base(file), ".json"))
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if c.Pod.UID == podUID {
			found = append(found, c)
		}
	}
	return found, nil
}

// pid returns the container's first process, and false when it has none that runs.
func (c *Container) pid() (int, bool) {
	data, err := os.ReadFile(c.PIDFile)
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return 0, false
	}
	return pid, isAlive(pid)
}

// awaitEnd waits until the container's first process has ended.
func (c *Container) awaitEnd(patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if _, alive := c.pid(); !alive {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("container %q has not ended after %s", c.Name, patience)
		}
	}
}
