package plane

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/node"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// Status is what the supervisor knows of its processes.
type Status struct {
	// Components are those of the control plane.
	Components []proc.Status `json:"components"`
	Nodes      []NodeStatus  `json:"nodes"`
}

// NodeStatus is a node's init and what that says of its own programs; Booted is nil while it does not answer.
type NodeStatus struct {
	spec.Node
	Init   proc.Status  `json:"init"`
	Booted *node.Status `json:"booted,omitempty"`
}

func (s *Supervisor) handler() http.Handler {
	mux := s.plane.Handler()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		status, err := s.status(r.Context())
		if err != nil {
			proc.WriteResult(w, err)
			return
		}
		proc.WriteJSON(w, status)
	})
	mux.HandleFunc("POST /reconcile", func(w http.ResponseWriter, _ *http.Request) { proc.WriteResult(w, s.Reconcile()) })
	mux.HandleFunc("POST /nodes/{node}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		proc.WriteResult(w, s.nodes.Do(r.PathValue("node"), r.PathValue("verb")))
	})
	mux.HandleFunc("POST /nodes/{node}/components/{name}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		client := proc.Client{Socket: s.cluster.NodeSocket(r.PathValue("node"))}
		proc.WriteResult(w, client.Call(r.Context(), http.MethodPost, "/components/"+r.PathValue("name")+"/"+r.PathValue("verb"), nil, nil))
	})
	return mux
}

func (s *Supervisor) status(ctx context.Context) (*Status, error) {
	state, err := s.cluster.Load()
	if err != nil {
		return nil, err
	}
	status := &Status{Components: s.plane.Statuses()}
	inits := s.nodes.Statuses()
	for _, n := range state.Nodes {
		one := NodeStatus{Node: n, Init: proc.Status{Name: n.Name, State: proc.Stopped}}
		if i := slices.IndexFunc(inits, func(init proc.Status) bool { return init.Name == n.Name }); i >= 0 {
			one.Init = inits[i]
		}
		if one.Init.State == proc.Running && !n.VM {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			booted := &node.Status{}
			if err := (proc.Client{Socket: s.cluster.NodeSocket(n.Name)}).Call(ctx, http.MethodGet, "/status", nil, booted); err == nil {
				one.Booted = booted
			}
			cancel()
		}
		status.Nodes = append(status.Nodes, one)
	}
	return status, nil
}
