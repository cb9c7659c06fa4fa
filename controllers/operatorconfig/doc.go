// Package operatorconfig reads, for the manager, what is said for the whole operator (internal/operator), and says aloud when that is a pause, or cannot be
// understood. It imports nothing of the other controllers.
//
// Start reading at Source, which the other controllers and admission ask.
package operatorconfig
