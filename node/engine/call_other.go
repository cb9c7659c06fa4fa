//go:build !amd64

package engine

import criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"

// calledAt finds no call: what stands before an address is known of amd64 only.
func calledAt(string, uint64) (number uint64, found bool) { return 0, false }

// restart leaves the registers as CRIU took them: which of them tell of a call is known of amd64 only. A wait that was cut off may end with EINTR.
func restart(*criucore.CoreEntry) bool { return false }
