package install

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// criPatience is how long a container runtime may take to answer.
const criPatience = 5 * time.Second

// call speaks the container runtime interface.
func (p process) call(ctx context.Context, what func(context.Context, cri.RuntimeServiceClient) error) error {
	connection, err := grpc.NewClient("unix://"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, criPatience)
	defer cancel()
	return what(ctx, cri.NewRuntimeServiceClient(connection))
}

// serves: containerd 1 does not list its handlers, and is asked for the configuration that it runs with.
func (p process) serves(ctx context.Context) (names []string, err error) {
	err = p.call(ctx, func(ctx context.Context, client cri.RuntimeServiceClient) error {
		status, err := client.Status(ctx, &cri.StatusRequest{Verbose: true})
		if err != nil {
			return err
		}
		for _, handler := range status.RuntimeHandlers {
			names = append(names, handler.Name)
		}
		if len(names) == 0 {
			names = handlersIn(status.Info["config"])
		}
		return nil
	})
	return names, err
}

// handlersIn are the names of the handlers in the configuration that containerd says that it runs with.
func handlersIn(config string) (names []string) {
	var running struct {
		Containerd struct {
			Runtimes map[string]json.RawMessage `json:"runtimes"`
		} `json:"containerd"`
	}
	if err := json.Unmarshal([]byte(config), &running); err != nil {
		return nil
	}
	for name := range running.Containerd.Runtimes {
		names = append(names, name)
	}
	return names
}

func (p process) version(ctx context.Context) (says string, err error) {
	err = p.call(ctx, func(ctx context.Context, client cri.RuntimeServiceClient) error {
		v, err := client.Version(ctx, &cri.VersionRequest{})
		if err == nil {
			says = v.RuntimeName + " " + v.RuntimeVersion + " at " + p.words[0]
		}
		return err
	})
	return says, err
}

func (p process) sandboxes(ctx context.Context) (ids []string, err error) {
	err = p.call(ctx, func(ctx context.Context, client cri.RuntimeServiceClient) error {
		list, err := client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		for _, sandbox := range list.GetItems() {
			if keys.IsRuntimeClass(sandbox.RuntimeHandler) && sandbox.State == cri.PodSandboxState_SANDBOX_READY {
				ids = append(ids, sandbox.Id)
			}
		}
		return err
	})
	return ids, err
}
