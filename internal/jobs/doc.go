// Package jobs knows what the Job controller of Kubernetes makes of a pod that is captured and deleted (design M6): which pods get the condition
// DisruptionTarget, so that they can be told from pods that failed, and what a Job still bears that counts them all the same. Its rules are
// those of pkg/controller/job in Kubernetes 1.37.
//
// It imports the API types alone. Start reading at IsToBeMarked and OutlookOf.
package jobs
