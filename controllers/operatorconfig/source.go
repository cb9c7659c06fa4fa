package operatorconfig

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/operator"
)

// readTime bounds how long a cache that is not filled yet is waited for.
const readTime = 500 * time.Millisecond

// Source tells what is said for the whole operator. It is read at each use, from a cache. A nil Source says nothing, as without a ConfigMap.
type Source struct {
	Reader client.Reader
	// Namespace is the operator's own.
	Namespace string

	keeper operator.Keeper
}

// Config is what holds. What cannot be read or understood changes nothing of what held before.
func (s *Source) Config(ctx context.Context) operator.Config {
	if s == nil {
		return operator.Config{}
	}
	soon, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	configMap := &corev1.ConfigMap{}
	err := s.Reader.Get(soon, client.ObjectKey{Namespace: s.Namespace, Name: operator.ConfigMap}, configMap)
	if client.IgnoreNotFound(err) != nil {
		ctrl.LoggerFrom(ctx).Error(err, "read what is said for the whole operator", "configMap", operator.ConfigMap)
		last, _ := s.keeper.Last() // nothing is said before the controllers begin, which wait for the ConfigMap to be read
		return last
	}
	c, err := s.keeper.Take(configMap.Data)
	if err != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("what cannot be understood changes nothing", "reason", err.Error()) // Reconciler is the one that is loud
	}
	return c
}

// Allows tells whether pods of a namespace are captured and restored. One that cannot be read is allowed: its agents look again.
func (s *Source) Allows(ctx context.Context, namespace string) bool {
	c := s.Config(ctx)
	if c.Allows(namespace, nil) || !c.NeedsLabels() {
		return c.Allows(namespace, nil)
	}
	soon, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	found := &corev1.Namespace{}
	if err := s.Reader.Get(soon, client.ObjectKey{Name: namespace}, found); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "read the labels of a namespace", "namespace", namespace)
		return true
	}
	return c.Allows(namespace, found.Labels)
}

// Quota is what the Checkpoints of a namespace may take in buckets, in bytes; 0 is no bound.
func (s *Source) Quota(ctx context.Context, namespace string) (int64, error) {
	if s == nil {
		return 0, nil
	}
	found := &corev1.Namespace{}
	if err := s.Reader.Get(ctx, client.ObjectKey{Name: namespace}, found); client.IgnoreNotFound(err) != nil {
		return 0, err
	}
	quota, err := s.Config(ctx).QuotaOf(namespace, found.Annotations)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the quota of all namespaces counts instead")
	}
	return quota, nil
}
