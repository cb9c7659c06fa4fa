// Package agent has the rights of the agents, so that one can tell which of them it lacks in a cluster.
package agent

import _ "embed" // for the file

// Rights are the ServiceAccount, roles and bindings of the agents, as YAML.
//
//go:embed rbac.yaml
var Rights []byte
