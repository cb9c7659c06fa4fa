package operator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// ConfigMap is the name of the ConfigMap, in the operator's own namespace.
const ConfigMap = "checkpoint-operator"

// The keys of the ConfigMap. One that is absent has its default.
const (
	// Paused is "true" or "false", the default: whether nothing is captured, restored or expired.
	Paused = "paused"
	// Namespaces are the names of the namespaces whose pods are captured and restored, separated by commas or blanks.
	Namespaces = "namespaces"
	// NamespaceSelector selects such namespaces by their labels, as team=blue,stage!=test. Without it and Namespaces all are allowed.
	NamespaceSelector = "namespaceSelector"
	// NamespaceQuota is what the Checkpoints of a namespace may take in buckets, as 50Gi. The annotation keys.NamespaceQuota says another one of one.
	NamespaceQuota = "namespaceQuota"
)

// Config is what is said for the whole operator. The zero value is what holds when nothing is.
type Config struct {
	// Paused is a sentence that says why the operator is paused; empty when it is not.
	Paused string
	// Names and Selector say which namespaces are allowed: those that one of them says. Without both all are.
	Names    []string
	Selector labels.Selector
	// Quota is in bytes; 0 is none.
	Quota int64
}

// Parse reads the data of the ConfigMap. What is wrong with it is in the error, and in Config as in former, which held before; nil is not known. A value
// that cannot be understood, where none is known that it replaces, pauses the operator: it does nothing that it may have been told not to do.
func Parse(data map[string]string, former *Config) (Config, error) {
	var wrong []error
	c := Config{}
	keep := func(err error, restore func(former Config)) {
		if err == nil {
			return
		}
		wrong = append(wrong, err)
		if former != nil {
			restore(*former)
		} else if c.Paused == "" {
			c.Paused = fmt.Sprintf("ConfigMap %s cannot be understood: %v", ConfigMap, err)
		}
	}
	var err error
	for _, key := range slices.Sorted(maps.Keys(data)) {
		switch value := strings.TrimSpace(data[key]); key {
		case Paused:
			err = checkPaused(value)
			if value == keys.True {
				c.Paused = fmt.Sprintf("the whole operator is paused, as ConfigMap %s says", ConfigMap)
			}
			keep(err, func(former Config) { c.Paused = former.Paused })
		case Namespaces:
			c.Names, err = parseNames(value)
			keep(err, func(former Config) { c.Names = former.Names })
		case NamespaceSelector:
			c.Selector, err = parseSelector(value)
			keep(err, func(former Config) { c.Selector = former.Selector })
		case NamespaceQuota:
			c.Quota, err = ParseQuota(fmt.Sprintf("%s of ConfigMap %s", NamespaceQuota, ConfigMap), value)
			keep(err, func(former Config) { c.Quota = former.Quota })
		default:
			wrong = append(wrong, fmt.Errorf("ConfigMap %s has the key %q; it may have %s, %s, %s and %s",
				ConfigMap, key, Paused, Namespaces, NamespaceSelector, NamespaceQuota))
		}
	}
	return c, errors.Join(wrong...)
}

func checkPaused(value string) error {
	if value == keys.True || value == keys.False {
		return nil
	}
	return fmt.Errorf("%s of ConfigMap %s is %q; it may be %q or %q", Paused, ConfigMap, value, keys.True, keys.False)
}

func parseNames(value string) ([]string, error) {
	names := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
	for _, name := range names {
		if len(validation.IsDNS1123Label(name)) > 0 {
			return nil, fmt.Errorf("%s of ConfigMap %s names %q; it may name namespaces, separated by commas", Namespaces, ConfigMap, name)
		}
	}
	if len(names) == 0 { // one that wants none has to say so by paused
		return nil, fmt.Errorf("%s of ConfigMap %s is empty; it may be names of namespaces, separated by commas; without the key all are allowed",
			Namespaces, ConfigMap)
	}
	return names, nil
}

func parseSelector(value string) (labels.Selector, error) {
	selector, err := labels.Parse(value)
	if err != nil || selector.Empty() {
		return nil, fmt.Errorf("%s of ConfigMap %s is %q; it may be a selector of labels, as team=blue,stage!=test", NamespaceSelector, ConfigMap, value)
	}
	return selector, nil
}

// ParseQuota reads a quantity of bytes above 0. what says in the error what it is of.
func ParseQuota(what, value string) (int64, error) {
	quantity, err := resource.ParseQuantity(value)
	if err != nil || quantity.Value() <= 0 {
		return 0, fmt.Errorf("%s is %q; it may be a quantity of bytes above 0, as 50Gi", what, value)
	}
	return quantity.Value(), nil
}

// Allows tells whether pods of a namespace are captured and restored, by its name and its labels.
func (c Config) Allows(name string, of map[string]string) bool {
	if len(c.Names) == 0 && c.Selector == nil {
		return true
	}
	return slices.Contains(c.Names, name) || c.Selector != nil && c.Selector.Matches(labels.Set(of))
}

// NeedsLabels tells whether Allows depends on the labels of namespaces.
func (c Config) NeedsLabels() bool { return c.Selector != nil }

// NotAllowed is the sentence about the pods of a namespace that is not allowed.
func NotAllowed(namespace string) string {
	return fmt.Sprintf("namespace %s is not among those that ConfigMap %s allows", namespace, ConfigMap)
}

// QuotaOf is what the Checkpoints of a namespace may take in buckets, in bytes, given its annotations; 0 is no bound. An annotation that cannot be understood
// is none, and the error says so.
func (c Config) QuotaOf(name string, annotations map[string]string) (int64, error) {
	value, found := annotations[keys.NamespaceQuota]
	if !found {
		return c.Quota, nil
	}
	quota, err := ParseQuota(fmt.Sprintf("annotation %s of namespace %s", keys.NamespaceQuota, name), value)
	if err != nil {
		return c.Quota, err
	}
	return quota, nil
}
