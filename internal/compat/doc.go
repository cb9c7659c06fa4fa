// Package compat knows what of a machine a captured program depends on, and whether it can go on on another one (design M4). A program looks once, at
// its start, at what its processor and its kernel can do, and uses it for as long as it runs.
//
// Facts are what a machine is, Rules are what somebody wants them to be compared by. Start reading at Rules.Check.
package compat
