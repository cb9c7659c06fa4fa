package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlocksOfAPage(t *testing.T) {
	for what, test := range map[string]struct{ page, script, err string }{
		"none":             {page: "# A page\n```\nnot to be run\n```\n", script: "set -euo pipefail\n"},
		"two":              {page: "```sh\na\nb\n```\ntext\n```sh\nc\n```\n", script: "set -euo pipefail\necho '# p:2'\na\nb\necho '# p:7'\nc\n"},
		"one without end":  {page: "text\n```sh\na\n", err: "the block of line 3 has no end"},
		"of another kind":  {page: "```yaml\na: b\n```\n```sh\nc\n```\n", script: "set -euo pipefail\necho '# p:5'\nc\n"},
		"with a fence out": {page: "```sh\ncat <<'END'\n~~~\nEND\n```\n", script: "set -euo pipefail\necho '# p:2'\ncat <<'END'\n~~~\nEND\n"},
	} {
		t.Run(what, func(t *testing.T) {
			blocks, err := blocksOf(test.page)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("it says %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.script, scriptOf("p", blocks)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
