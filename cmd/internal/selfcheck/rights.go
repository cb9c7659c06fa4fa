package selfcheck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// atOnce is how many questions are asked at once.
const atOnce = 8

// Rights compares what the program may do with the roles in the manifests of its version. namespaces says which namespaces of the cluster stand for those of
// the manifests; one that is not in it stays.
func Rights(ctx context.Context, c client.Client, manifests []byte, namespaces map[string]string) inspect.Check {
	check := inspect.Check{Name: "rights in the cluster", Level: inspect.OK}
	wanted, err := attributesIn(manifests, namespaces)
	var missing []string
	if err == nil {
		missing, err = refused(ctx, c, wanted)
	}
	switch {
	case err != nil:
		check.Level, check.Says = inspect.Warn, "they cannot be found out: "+err.Error()
	case len(missing) > 0:
		check.Level, check.Says = inspect.Fail, "its ServiceAccount may not: "+strings.Join(missing, "; ")
		check.Mend = "apply the manifests of this version again, with their roles: docs/installation.md#upgrade"
	default:
		check.Says = fmt.Sprintf("its ServiceAccount has all %d that it needs", len(wanted))
	}
	return check
}

// attributesIn are what the roles in manifests allow, one by one.
func attributesIn(manifests []byte, namespaces map[string]string) ([]authorizationv1.ResourceAttributes, error) {
	var all []authorizationv1.ResourceAttributes
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		var role rbacv1.Role // a ClusterRole has the same fields
		err := decoder.Decode(&role)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if role.Kind != "Role" && role.Kind != "ClusterRole" {
			continue
		}
		namespace := cmp.Or(namespaces[role.Namespace], role.Namespace)
		for _, rule := range role.Rules {
			all = append(all, attributesOf(rule, namespace)...)
		}
	}
}

func attributesOf(rule rbacv1.PolicyRule, namespace string) (all []authorizationv1.ResourceAttributes) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			resource, sub, _ := strings.Cut(resource, "/")
			for _, verb := range rule.Verbs {
				for _, name := range names {
					all = append(all, authorizationv1.ResourceAttributes{
						Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name,
					})
				}
			}
		}
	}
	return all
}

// refused asks the API server for each, and returns those that it refuses, as `patch nodes`, with all verbs of a resource together.
func refused(ctx context.Context, c client.Client, wanted []authorizationv1.ResourceAttributes) ([]string, error) {
	var mu sync.Mutex
	verbs := map[string][]string{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, attributes := range wanted {
		group.Go(func() error {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes}}
			if err := c.Create(ctx, review); err != nil {
				return err
			}
			if !review.Status.Allowed {
				mu.Lock()
				defer mu.Unlock()
				on := resourceName(attributes)
				verbs[on] = append(verbs[on], attributes.Verb)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var missing []string
	for _, on := range slices.Sorted(maps.Keys(verbs)) {
		slices.Sort(verbs[on])
		missing = append(missing, strings.Join(verbs[on], ", ")+" "+on)
	}
	return missing, nil
}

// resourceName is a resource for a person, as pods/status or secrets in checkpoint-system.
func resourceName(a authorizationv1.ResourceAttributes) string {
	name := a.Resource
	if a.Group != "" {
		name += "." + a.Group
	}
	if a.Subresource != "" {
		name += "/" + a.Subresource
	}
	if a.Name != "" {
		name += " " + a.Name
	}
	if a.Namespace != "" {
		name += " in " + a.Namespace
	}
	return name
}
