package rbac

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/transparent-checkpoint/operator/manifests/agent"
)

// never are rights by which a token would be worth the cluster, or what is of others. Without verbs it is any of them.
var never = []struct {
	resource string
	verbs    []string
}{
	{"*", nil},
	{"nodes/proxy", nil}, {"pods/exec", nil}, {"pods/attach", nil}, {"pods/portforward", nil}, {"pods/ephemeralcontainers", nil},
	{"serviceaccounts/token", nil}, {"certificatesigningrequests", nil},
	{"pods", []string{"create", "delete", "deletecollection", "update"}}, {"pods/binding", nil},
	{"clusterroles", []string{"escalate", "bind"}}, {"roles", []string{"escalate", "bind"}},
	{"users", nil}, {"groups", nil}, {"serviceaccounts", []string{"impersonate"}},
}

// TestRightsDoNotGrowUnseen: neither manager nor agent has a right by which its token would be worth more than what it does, and Secrets are read in the
// operator's own namespace alone, by their names.
func TestRightsDoNotGrowUnseen(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{"manager": Manager, "agent": agent.Rights} {
		clusterRules, rules := rulesOf(t, text)
		if len(clusterRules) < 5 || len(rules) == 0 {
			t.Fatalf("%s: the manifest has %d rules for the cluster, and %d for a namespace", name, len(clusterRules), len(rules))
		}
		for _, rule := range slices.Concat(clusterRules, rules) {
			if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.APIGroups, "*") || len(rule.NonResourceURLs) > 0 {
				t.Errorf("%s has everything of something: %+v", name, rule)
			}
			for _, right := range never {
				may := slices.ContainsFunc(rule.Verbs, func(verb string) bool { return right.verbs == nil || slices.Contains(right.verbs, verb) })
				if slices.Contains(rule.Resources, right.resource) && may {
					t.Errorf("%s has a right on %s that it should not have: %v", name, right.resource, rule.Verbs)
				}
			}
		}
		for _, rule := range clusterRules {
			if slices.Contains(rule.Resources, "secrets") || slices.Contains(rule.Resources, "configmaps") {
				t.Errorf("%s has a right on all Secrets or ConfigMaps of the cluster: %+v", name, rule)
			}
		}
		for _, rule := range rules {
			if name == "agent" && slices.Contains(rule.Resources, "secrets") && !slices.Equal(rule.Verbs, []string{"get"}) {
				t.Errorf("the agent may do more with Secrets than get one: %v", rule.Verbs)
			}
		}
	}
}

// rulesOf returns the rules of the ClusterRoles and of the Roles in YAML.
func rulesOf(t *testing.T, text []byte) (cluster, namespaced []rbacv1.PolicyRule) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var role rbacv1.ClusterRole // a Role has the same fields
		err := decoder.Decode(&role)
		if errors.Is(err, io.EOF) {
			return cluster, namespaced
		}
		if err != nil {
			t.Fatal(err)
		}
		switch role.Kind {
		case "ClusterRole":
			cluster = append(cluster, role.Rules...)
		case "Role":
			namespaced = append(namespaced, role.Rules...)
		}
	}
}
