// Package rbac has the rights of the manager, so that it can tell which of them it lacks in a cluster.
package rbac

import _ "embed" // for the file

// Manager are the ServiceAccount, roles and bindings of the manager, as YAML.
//
//go:embed manager.yaml
var Manager []byte
