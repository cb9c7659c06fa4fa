// Package secrets says which Secrets a CheckpointStorageLocation needs, what is read from them, and what is wrong with them. It is pure: whoever calls it
// reads the Secrets.
package secrets
