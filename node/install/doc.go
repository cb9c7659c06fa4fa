// Package install brings the runtime onto a node and looks after it there: the programs are put in their place, the container runtime gets a handler that
// calls them, is restarted when its configuration changed by that, and the node is labelled once the handler is served.
//
// Start reading at Installer: installer.go is the loop, place.go the programs, register.go what goes into a container runtime's configuration, containerd.go
// and crio.go the runtimes, host.go how they are found, remove.go the way back. It knows of the agent no more than the folders in which both meet the
// runtime (internal/capture).
package install
