package capture

import "errors"

// What a node is asked of its kernel stands in system_linux.go. Elsewhere, as on the machine of a person who has kubectl there, only what is recorded is read.

// errLocked says that somebody holds a lock who does not share it.
var errLocked = errors.New("it is locked")

// sharing is whether others may have the same lock.
type sharing bool

const (
	alone  sharing = false
	shared sharing = true
)
