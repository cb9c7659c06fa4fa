// Package filesystem keeps the objects of a storage.Store in a directory: for tests, for volumes that several nodes share, and to look at.
//
// It imports the standard library and the port. Below its directory stand
//
//	objects/<key>         one file per object
//	partial/<name>        what is being written; renamed or linked to its key when it is complete and synced
//	uploads/<id>/         one folder per upload: the file "key", and the parts as <number>-<crc32c>
//
// Everything goes through an os.Root, so that neither a key nor a symlink leads out of the directory. A process that is killed leaves files in
// partial, which nobody reads; RemovePartial removes them. Start reading at store.go.
package filesystem
