package engine

import (
	"fmt"
	"path/filepath"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// numbersOf are how a state numbers the namespaces of each kind. Not that of control groups: a container that was captured where they have version 1 has
// the node's, and gets one of its own where they have version 2.
var numbersOf = map[specs.LinuxNamespaceType]func(*criucore.TaskKobjIdsEntry) uint32{
	specs.PIDNamespace:     (*criucore.TaskKobjIdsEntry).GetPidNsId,
	specs.NetworkNamespace: (*criucore.TaskKobjIdsEntry).GetNetNsId,
	specs.MountNamespace:   (*criucore.TaskKobjIdsEntry).GetMntNsId,
	specs.IPCNamespace:     (*criucore.TaskKobjIdsEntry).GetIpcNsId,
	specs.UTSNamespace:     (*criucore.TaskKobjIdsEntry).GetUtsNsId,
	specs.UserNamespace:    (*criucore.TaskKobjIdsEntry).GetUserNsId,
	specs.TimeNamespace:    (*criucore.TaskKobjIdsEntry).GetTimeNsId,
}

// checkNamespaces returns a MismatchError when the first task is to run in a namespace of the node, and the new container has one of its own: CRIU gives
// a task the namespaces that it is in itself where a state numbers them as those of the CRIU that wrote it.
func checkNamespaces(images string, spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	whole, err := decodeImage(filepath.Join(images, "inventory.img"), maxTreeSize, &inventory.InventoryEntry{})
	if err != nil {
		return fmt.Errorf("read the inventory: %w", err)
	}
	processes, err := decodeImage(filepath.Join(images, "pstree.img"), maxTreeSize, &pstree.PstreeEntry{})
	if err != nil {
		return fmt.Errorf("read the process tree: %w", err)
	}
	for _, process := range processes {
		if process.GetPpid() != 0 {
			continue // CRIU lets those that come after the first be in its namespaces and in new ones only
		}
		name := fmt.Sprintf("ids-%d.img", process.GetPid())
		tasks, err := decodeImage(filepath.Join(images, name), maxTreeSize, &criucore.TaskKobjIdsEntry{})
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		for _, task := range tasks {
			for _, entry := range whole {
				if err := compareNamespaces(task, entry.GetRootIds(), spec); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func compareNamespaces(task, node *criucore.TaskKobjIdsEntry, spec *specs.Spec) error {
	for _, namespace := range spec.Linux.Namespaces {
		number := numbersOf[namespace.Type]
		if number != nil && number(task) == number(node) {
			return specMismatch(fmt.Sprintf("namespace of kind %q", namespace.Type), "the node's", "one of its own")
		}
	}
	return nil
}
