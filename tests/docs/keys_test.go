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

// Who looks a reason of a pod's conditions up finds it on one of the two pages for users.
func TestReasonsOfPodsAreInThePages(t *testing.T) {
	told := read(t, "docs/user-guide.md") + read(t, "docs/compatibility.md")
	found := 0
	for _, path := range []string{"internal/keys/pod.go", "internal/keys/operator.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, path), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			spec, is := node.(*ast.ValueSpec)
			if !is || len(spec.Values) != 1 || !reasonName.MatchString(spec.Names[0].Name) {
				return true
			}
			literal, is := spec.Values[0].(*ast.BasicLit)
			if !is {
				return true
			}
			found++
			if value, err := strconv.Unquote(literal.Value); err != nil || !strings.Contains(told, "`"+value+"`") {
				t.Errorf("neither docs/user-guide.md nor docs/compatibility.md names the reason %s", literal.Value)
			}
			return true
		})
	}
	if found < 40 {
		t.Errorf("%d reasons were found", found)
	}
}

// reasonName is what the constants of reasons of Restored and Checkpointable begin with.
var reasonName = regexp.MustCompile(`^(Cold|Restored[A-Z]|RestoreRefused|Checkpointable[A-Z]|Unprotected)`)
