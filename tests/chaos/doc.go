// Command chaos (make chaos) tries to break the promise: a labelled pod that gets its stop signal loses nothing, and no restore is silently skipped or
// wrong. On a cluster of its own it ends pods of workloads again and again, and breaks something each time: main.go. Which pod, how, and what breaks is
// drawn from a seed (plan.go, faults.go); programs that can prove their state tell numbers all the while, and books.go keeps what was told and knows what
// may follow; look.go asks them, and table.go says what came of it. See docs/designs/0019-chaos.md.
package main
