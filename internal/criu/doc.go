// Package criu knows what CRIU says when it refuses: which lines of its logs are errors, and what a person can do about them. The table in
// advice.go grows with every refusal that somebody met; docs/operations.md shows it. And it knows which of CRIU's options users may ask for.
//
// It reads text and nothing else, so that runtime, agent, admission and tests can share it. Start reading at Advise and ParseOptions.
package criu
