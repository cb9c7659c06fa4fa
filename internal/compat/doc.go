// Package compat knows what of a machine a captured program depends on, and whether it can go on on another one (design M4). A program looks once, at
// its start, at what its processor can do, and uses it for as long as it runs.
package compat
