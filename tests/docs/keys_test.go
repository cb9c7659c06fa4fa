package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var keyRow = regexp.MustCompile("(?m)^\\| `((?:memverge\\.ai/|MMC_)[^`]+)` \\|")

// What docs/keys.md has in its tables is what users may write, all of it.
func TestThePageOfKeysHasThemAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, "internal/keys/user.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var known, told []string
	ast.Inspect(file, func(node ast.Node) bool {
		if literal, is := node.(*ast.BasicLit); is && literal.Kind == token.STRING {
			value, err := strconv.Unquote(literal.Value)
			if err == nil && (strings.HasPrefix(value, "memverge.ai/") || strings.HasPrefix(value, "MMC_")) {
				known = append(known, value)
			}
		}
		return true
	})
	for _, match := range keyRow.FindAllStringSubmatch(read(t, "docs/keys.md"), -1) {
		told = append(told, match[1])
	}
	slices.Sort(known)
	slices.Sort(told)
	if diff := cmp.Diff(known, told); diff != "" {
		t.Errorf("docs/keys.md does not fit internal/keys/user.go (-constants +table)\n%s", diff)
	}
}
