// Package podspec reads out of a pod what a capture is concerned with: which containers are captured, and what in the spec says that
// the pod cannot be. Admission leaves such pods alone, and the manager tells their users why; both must come to the same.
//
// It imports the API types alone. Start reading at Obstacle.
package podspec
