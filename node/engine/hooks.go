package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// runHook does what kubelet would have done in a container before its stop signal.
func (m member) runHook(ctx context.Context, hook capture.Hook) error {
	if hook.HTTP == nil {
		return m.OCI().call(ctx, append([]string{"exec", m.ID}, hook.Exec...)...)
	}
	host := hook.HTTP.Host
	dial := func(_ context.Context, network, address string) (conn net.Conn, err error) {
		err = inNamespace(m.Network, unix.CLONE_NEWNET, func() error {
			conn, err = net.DialTimeout(network, address, 5*time.Second)
			return err
		})
		return conn, err
	}
	if host == "" {
		if err := inNamespace(m.Network, unix.CLONE_NEWNET, func() (err error) {
			host, err = podAddress()
			return err
		}); err != nil {
			return err
		}
	}
	scheme := hook.HTTP.Scheme
	if scheme == "" {
		scheme = "http"
	}
	url := scheme + "://" + net.JoinHostPort(host, strconv.Itoa(hook.HTTP.Port)) + "/" + trimSlash(hook.HTTP.Path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for name, value := range hook.HTTP.Headers {
		request.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // as kubelet does
	}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func trimSlash(path string) string {
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	return path
}

// podAddress returns the pod's own address, from inside its network namespace.
func podAddress() (string, error) {
	own, err := ownAddresses()
	if err != nil {
		return "", err
	}
	best := netip.Addr{}
	for address := range own {
		if address.IsGlobalUnicast() && (!best.IsValid() || address.Is4() && !best.Is4()) {
			best = address
		}
	}
	if !best.IsValid() {
		return "", fmt.Errorf("the pod has no address")
	}
	return best.String(), nil
}
