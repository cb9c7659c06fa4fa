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
	// ErrWrongRegion: the bucket is in another region than requests are sent to, or signed for. A person must act.
	ErrWrongRegion = errors.New("the region is wrong")
	// ErrClockSkew: the clocks of server and client differ by more than a signature may be old. A person must act.
	ErrClockSkew = errors.New("the clocks differ by too much")
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

// advice is what a person can do about an error that does not go away by itself.
var advice = []struct {
	err  error
	text string
}{
	{ErrNoBucket, "Make the bucket, or correct its name."},
	{ErrAccessDenied, "Compare the credentials with those that the service knows; they must allow to list, read, write and delete objects of the bucket."},
	{ErrWrongRegion, "Set region, and the endpoint of a service that has one for each region, to those of the bucket."},
	{ErrClockSkew, "Set the clocks by NTP: that of the machine that says so, and that of the service."},
	{ErrNoKey, "Put the key back with which it was encrypted."},
	{ErrEncryption, "Compare the server-side encryption that is asked for with what the service offers, and the rights of the credentials to use its keys."},
	{ErrNoSpace, "Give the bucket more room or a larger quota, or delete what is not needed."},
}

// Advice says in a sentence what a person can do about an error, and that one is needed; empty where nobody is, or nobody knows.
func Advice(err error) string {
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return a.text
		}
	}
	return ""
}
