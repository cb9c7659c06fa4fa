package storage

import "errors"

// What can be wrong, the same for every store. Test with errors.Is.
var (
	// ErrNotExist: there is no object of that key, or no such upload.
	ErrNotExist = errors.New("it does not exist")
	// ErrExist: there is an object of that key already.
	ErrExist = errors.New("it exists already")
	// ErrNoBucket: the bucket itself is not there. It is not ErrNotExist, so that a wrong name is never taken for a deleted object.
	ErrNoBucket = errors.New("the bucket does not exist")
	// ErrAccessDenied: the credentials are wrong, or do not allow this. A person must act.
	ErrAccessDenied = errors.New("access is denied")
	// ErrNoSpace: the store or its quota is full. A person must act.
	ErrNoSpace = errors.New("the store is full")
	// ErrInvalid: the call itself is wrong, and wrong again when it is repeated.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt: what was read is not what was written.
	ErrCorrupt = errors.New("the data is corrupt")
	// ErrNoKey: it is encrypted with a key that is not among those that there are. A person must act.
	ErrNoKey = errors.New("the key is not there")
	// ErrEncryption: the server does not encrypt or decrypt in the way that it is asked to. A person must act.
	ErrEncryption = errors.New("the server does not encrypt or decrypt so")
	// ErrUnavailable: the store did not answer, or said that it could not at the moment. The only error that is worth a retry.
	ErrUnavailable = errors.New("the store is unavailable")
)
