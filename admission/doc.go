// Package admission prepares pods that ask for it, or whose Namespace does, as they are made: it gives them the RuntimeClass whose handler captures and
// restores, and writes what the runtime has to know into an annotation. It has Jobs not count captured pods as failures. It refuses values that no part
// of the operator could understand, and asks of whoever has pods begin from a Checkpoint whether he may restore it.
//
// Start reading at Admit, which is all of it for pods, and AdmitJob; Pods and Jobs bring them to the API server. Beginnings is the asking.
package admission
