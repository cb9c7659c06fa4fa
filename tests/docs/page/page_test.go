package page

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = "# Keys & `code`, twice\n\nSee [there](other.md#a-b) and [`here`](#what-it-is).\n\n## What it is\n\n## What it is\n\n" +
	"<a id=\"by-hand\"></a>\n\n* in a list\n\n  ```yaml of=Pod\n  spec: {}\n  ```\n\n```\npicture\n```\n\n| a | b |\n|---|---|\n| [x](y.md) | |\n"

func TestParse(t *testing.T) {
	t.Parallel()
	p, err := Parse("docs/sample.md", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	wantLinks := []Link{{3, "other.md#a-b"}, {3, "#what-it-is"}, {23, "y.md"}}
	if diff := cmp.Diff(wantLinks, p.Links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	wantBlocks := []Block{{14, "yaml", "of=Pod", "spec: {}\n"}, {18, "", "", "picture\n"}}
	if diff := cmp.Diff(wantBlocks, p.Blocks); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
	wantAnchors := map[string]bool{"keys--code-twice": true, "what-it-is": true, "what-it-is-1": true, "by-hand": true}
	if diff := cmp.Diff(wantAnchors, p.anchors); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
	if p.HasAnchor("a-b") || !p.HasAnchor("what-it-is-1") {
		t.Error("the anchors are others")
	}
	if got, want := p.At(3), "docs/sample.md:3"; got != want {
		t.Errorf("the place is %s, want %s", got, want)
	}
}
