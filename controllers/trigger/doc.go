// Package trigger makes the Checkpoints of pods that go on: when a pod gets the annotation memverge.ai/checkpoint-trigger, and periodically, as its
// annotations, its environment or its CheckpointPolicy say. From then on they are like those that are made by hand, see controllers/checkpoint.
//
// Nothing is remembered: when a pod is due is told by its start and by the Checkpoints that there are. Start reading at Reconciler.
package trigger
