package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Program is something that runs in a labelled pod and can prove that it is still itself.
type Program struct {
	// Name is unique, and part of a namespace's name.
	Name string
	// About says in some words what has to come back.
	About string
	// Image is what its containers run; Spec gets its name.
	Image Image
	// Spec returns the pod. Node, restart policy of a container that has none and the label are the runner's to set.
	Spec func(image string) corev1.PodSpec
	// Annotations are those of the pod.
	Annotations map[string]string
	// Objects are what the pod needs in its namespace, as ConfigMaps.
	Objects []runtime.Object
	// Seed gives the program its state, once. It is called until it returns nil, at most for startPatience.
	Seed func(context.Context, *Pod) error
	// Check returns an error unless the program is what it was at its seed, and goes on. It is called once before each deletion, and after each
	// restore until it returns nil, at most for checkPatience. It may change the state in a way that the next call knows of.
	Check func(context.Context, *Pod) error
	// Expect is empty for a program that continues. Else it is a part of what the runner says of it, as "capture failed: …": then it is known
	// that the program cannot be captured, and that this is said.
	Expect string
	// Quick programs are those that `make test` runs.
	Quick bool
}

// Image says how an image is made.
type Image struct {
	// Name is its name on the nodes, as localhost/fidelity-redis:1. Programs with the same name share the image.
	Name string
	// Build are the words behind `localcluster image build NAME`, as --from-debian redis-server.
	Build []string
	// Prepare makes what Build needs, in the source tree at root. It may be nil.
	Prepare func(ctx context.Context, root string) error
}
