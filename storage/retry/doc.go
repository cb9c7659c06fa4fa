// Package retry is a storage.Store that repeats what another store could not do for a moment.
//
// Only errors that wrap storage.ErrUnavailable are worth a repetition. It waits exponentially longer each time, with jitter, and ends when the
// context ends or the time is over. It imports the port and backoff, and no other package imports backoff. Start reading at New in store.go.
package retry
