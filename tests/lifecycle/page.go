package lifecycle

import (
	"fmt"
	"strings"
)

// block is a piece of a page that is to be copied into a shell.
type block struct {
	line   int // of the page, at which it begins; from 1
	script string
}

// blocksOf returns the blocks of a page that are marked as sh, in their order.
func blocksOf(page string) (blocks []block, err error) {
	inside := false
	for number, line := range strings.Split(page, "\n") {
		switch {
		case !inside && line == "```sh":
			inside = true
			blocks = append(blocks, block{line: number + 2})
		case inside && line == "```":
			inside = false
		case inside:
			blocks[len(blocks)-1].script += line + "\n"
		}
	}
	if inside {
		return nil, fmt.Errorf("the block of line %d has no end", blocks[len(blocks)-1].line)
	}
	return blocks, nil
}

// scriptOf is what a person types who copies all blocks, up to the first error, into one shell. Each is named before it is run.
func scriptOf(name string, blocks []block) string {
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for _, b := range blocks {
		fmt.Fprintf(&script, "echo '# %s:%d'\n%s", name, b.line, b.script)
	}
	return script.String()
}
