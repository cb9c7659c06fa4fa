// Package storagetest is the suite that every storage.Store has to pass, and a real MinIO for those that need a server.
//
// It imports the standard library and the port, and no adapter. Start reading at Run in suite.go.
package storagetest
