// Package checkpointpolicy says of each CheckpointPolicy whether it does what it says: to how many pods it applies, whether there are containers of
// the names that it selects, and whether its location is there. What it says is done elsewhere: by admission (containers), by the agents (paused,
// storageLocation) and by package retention.
//
// Start reading at judge, which is the rule.
package checkpointpolicy
