package lab

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// Listen listens where nodes and control plane of the cluster can connect to: in the network of its supervisor, out of which no way leads to this
// process. A socket stays in the network that it was made in. The address is of that network, as spec.PlaneIP or the loopback.
func (c *Cluster) Listen(address string) (net.Listener, error) {
	pid, err := host.ListenerPID(spec.Cluster{Name: c.Name}.Socket())
	if err != nil {
		return nil, err
	}
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer network.Close()
	var listener net.Listener
	listening := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with this
		err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			listener, err = net.Listen("tcp", address) //nolint:noctx // it is of this thread, which no context ends
		}
		listening <- err
	}()
	err = <-listening
	return listener, err
}
