// Package periodic says when a pod is captured that goes on: by an interval, which the pod or its CheckpointPolicy says, and by the schedule of the policy.
//
// It imports the API types. Start reading at Next.
package periodic
