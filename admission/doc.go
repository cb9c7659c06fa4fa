// Package admission prepares labelled pods as they are made: it gives them the RuntimeClass whose handler captures and restores, and writes what
// the runtime has to know into an annotation. It refuses values that no part of the operator could understand.
//
// Start reading at Admit, which is all of it; Pods brings it to the API server.
package admission
