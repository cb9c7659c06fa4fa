// Command checkpoint-runtime stands before a node's OCI runtime under the handler transparent-checkpoint: it takes runc's command line, and
// captures and restores the pods that have the label. Its configuration, runtime.json, lies in the folder above that of the versions.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/engine"
	"github.com/transparent-checkpoint/operator/node/runtime"
)

func main() {
	if filepath.Base(os.Args[0]) == engine.RelayName { // between an OCI runtime and CRIU, in a restore
		os.Exit(engine.Relay(os.Args[1:]))
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := runtime.Main(capture.HomeOf(self), os.Args[0], os.Args[1:]); err != nil {
		os.Exit(1)
	}
}
