// Package image keeps checkpoints in a storage.Store: a directory with CRIU's images becomes objects, and objects become a directory again.
//
// docs/storage-format.md is the format; this package is one writer and reader of it. It knows neither Kubernetes nor what the files mean, but for two
// things: memory in CRIU's pages-*.img is looked at page by page, by its addresses; and names at the top of the directory that begin with "agent" are
// notes of whoever uses this package, and are left out.
//
// Start reading at Folder in folder.go, then upload.go and fetch.go; files.go and page.go read parts of a checkpoint. Data goes one way up: survey.go finds
// the files, pack.go makes frames of them, cut.go and index.go find out what is there already, manifest.go has what all comes to. What comes from a bucket
// is not trusted: parseManifest has the checks.
package image
