package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

const downPatience = 30 * time.Second

func (c *command) down() *cobra.Command {
	var all bool
	command := &cobra.Command{
		Use:   "down",
		Short: "End a cluster and remove everything of it, whatever state it is in",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			clusters, err := spec.List()
			if err != nil {
				return err
			}
			if !all {
				cluster, err := c.cluster()
				if err != nil {
					return err
				}
				clusters = []spec.Cluster{cluster}
			}
			var failures error
			for _, cluster := range clusters {
				failures = errors.Join(failures, c.takeDown(command.Context(), cluster))
			}
			return failures
		},
	}
	command.Flags().BoolVar(&all, "all", false, "every cluster on this machine")
	return command
}

// takeDown needs nothing of the cluster to work. The kernel ends every process with the supervisor, and every mount, network and loop
// device with the last process that saw it; what is left to remove are cgroups and files, in an order in which a second call goes on
// where a first one was cut off.
func (c *command) takeDown(ctx context.Context, cluster spec.Cluster) error {
	lock, err := host.Lock(cluster.LockFile(), lockPatience)
	if err != nil {
		return err
	}
	defer lock.Close()
	_, statErr := os.Stat(cluster.Dir())
	if pid, err := host.ListenerPID(cluster.Socket()); err == nil {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the supervisor: %w", err)
		}
		defer awaitReaped(pid)
	}
	if _, err := host.KillCgroup(cluster.Cgroup(), downPatience); err != nil {
		return err
	}
	if err := awaitNoLoopDevices(ctx, cluster.Dir()); err != nil {
		return err
	}
	mounts, err := host.MountsBelow(cluster.Dir())
	if err != nil {
		return err
	}
	for _, point := range mounts { // none is made in the machine's namespace; a person may have
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	if err := os.RemoveAll(cluster.Dir()); err != nil {
		return err
	}
	if err := removeEmptyRoots(cluster); err != nil {
		return err
	}
	if statErr == nil {
		c.log.Printf("cluster %q is down", cluster.Name)
	} else {
		c.log.Printf("there was no cluster %q", cluster.Name)
	}
	return nil
}

// awaitReaped gives the machine's init time to take note of the end of the supervisor, so that not even its number is left.
func awaitReaped(pid int) {
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
	}
}

func awaitNoLoopDevices(ctx context.Context, dir string) error {
	deadline := time.Now().Add(downPatience)
	for {
		devices, err := host.LoopDevicesOf(dir)
		if err != nil || len(devices) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("loop devices %q still hold disks of the cluster after %s", devices, downPatience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// removeEmptyRoots removes what the clusters of this machine share, with the last of them.
func removeEmptyRoots(cluster spec.Cluster) error {
	if err := os.Remove(cluster.LockFile()); err != nil {
		return err
	}
	if err := os.Remove(spec.Root()); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	hierarchies, err := host.Hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		_ = syscall.Rmdir(h.MountPoint + "/" + spec.CgroupParent) // refused as long as another cluster is in it
	}
	return nil
}
