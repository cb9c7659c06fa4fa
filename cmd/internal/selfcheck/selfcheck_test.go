package selfcheck

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/manifests/agent"
	"github.com/transparent-checkpoint/operator/manifests/rbac"
)

// reviewer is an API server that allows what allows says.
func reviewer(allows func(authorizationv1.ResourceAttributes) bool) client.Client {
	return fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			review := o.(*authorizationv1.SelfSubjectAccessReview)
			review.Status.Allowed = allows(*review.Spec.ResourceAttributes)
			return nil
		},
	}).Build()
}

func TestRightsAreThoseOfTheManifests(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		manifests []byte
		lacks     authorizationv1.ResourceAttributes
		want      string
	}{
		"a manager": {
			rbac.Manager, authorizationv1.ResourceAttributes{Verb: "create", Resource: "pods", Subresource: "eviction"},
			"its ServiceAccount may not: create pods/eviction",
		},
		"a manager in another namespace": {
			rbac.Manager, authorizationv1.ResourceAttributes{
				Verb: "update", Resource: "leases", Group: "coordination.k8s.io", Name: "checkpoint-manager", Namespace: "ours",
			},
			"its ServiceAccount may not: update leases.coordination.k8s.io checkpoint-manager in ours",
		},
		"an agent": {
			agent.Rights, authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: "ours"}, "its ServiceAccount may not: get secrets in ours",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours := map[string]string{"checkpoint-system": "ours"}
			if got := Rights(t.Context(), reviewer(func(authorizationv1.ResourceAttributes) bool { return true }), test.manifests, ours); got.Level != inspect.OK {
				t.Errorf("with all: %+v", got)
			}
			got := Rights(t.Context(), reviewer(func(a authorizationv1.ResourceAttributes) bool { return a != test.lacks }), test.manifests, ours)
			if got.Level != inspect.Fail || got.Says != test.want || got.Mend == "" {
				t.Errorf("without one: %+v, want %s", got, test.want)
			}
		})
	}
	none := Rights(t.Context(), reviewer(func(a authorizationv1.ResourceAttributes) bool { return a.Resource != "nodes" }), rbac.Manager, nil)
	if want := "its ServiceAccount may not: get, list, watch nodes"; none.Says != want {
		t.Errorf("of one resource: %q, want %q", none.Says, want)
	}
}

func TestClockIsComparedWithThatOfTheAPIServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ahead time.Duration
		level inspect.Level
		says  string
	}{
		"the same":        {0, inspect.OK, "as that of the API server, to "},
		"seconds ahead":   {-time.Minute, inspect.Warn, "ahead of that of the API server"},
		"an hour behind":  {time.Hour, inspect.Fail, "behind that of the API server"},
		"a little behind": {3 * time.Second, inspect.OK, "behind that"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/version" {
					w.WriteHeader(http.StatusNotFound)
				}
				w.Header().Set("Date", time.Now().Add(test.ahead).UTC().Format(http.TimeFormat))
			}))
			defer server.Close()
			got := Clock(t.Context(), &rest.Config{Host: server.URL})
			if got.Level != test.level || !strings.Contains(got.Says, test.says) || (got.Mend == "") != (got.Level == inspect.OK) {
				t.Errorf("it says %+v, want %s, %q", got, test.level, test.says)
			}
		})
	}
	if got := Clock(t.Context(), &rest.Config{Host: "http://127.0.0.1:1"}); got.Level != inspect.Warn {
		t.Errorf("without a server: %+v", got)
	}
}
