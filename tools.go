//go:build tools

// Package operator pins the versions of the tools that write generated/, the deepcopy functions and manifests/; `make generate` runs them.
package operator

import (
	_ "k8s.io/code-generator/cmd/applyconfiguration-gen"
	_ "k8s.io/code-generator/cmd/client-gen"
	_ "k8s.io/code-generator/cmd/informer-gen"
	_ "k8s.io/code-generator/cmd/lister-gen"
	_ "sigs.k8s.io/controller-runtime/pkg/client"
	_ "sigs.k8s.io/controller-tools/cmd/controller-gen"
)
