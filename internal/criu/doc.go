// Package criu knows what CRIU says when it refuses: which lines of its logs are errors, and what a person can do about them. The table in
// advice.go grows with every refusal that somebody met; docs/operations.md shows it.
//
// It reads text and nothing else, so that runtime, agent and tests can share it. Start reading at Advise.
package criu
