// Package s3 keeps the objects of a storage.Store in a bucket of an S3-compatible server.
//
// It is the only package that speaks S3: it imports minio-go, x/sync, the port and the standard library. It asks of a server what every one of
// them has (signature V4, PUT, ranged GET, HEAD, ListObjectsV2, DELETE, multipart uploads) and uses If-None-Match where it is understood.
// Errors of the SDK are translated in errors.go; nothing of minio-go is visible outside.
//
// Start reading at Options in options.go and Store in store.go; put.go is how large and endless bodies are sent in bounded memory.
package s3
