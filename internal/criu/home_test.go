package criu

import (
	"strings"
	"testing"
)

func TestAProgramIsMovedToAnotherFolder(t *testing.T) {
	program := "\x7fELF…" + BuiltHome + "/ld-linux-x86-64.so.2\x00 and " + BuiltHome + "\x00 more"
	for what, test := range map[string]struct {
		program, dir, want string
		names, fails       bool
	}{
		"to a short one":              {program: program, dir: "/a", names: true, want: "/a"},
		"to where it was built for":   {program: program, dir: "/opt/checkpoint/criu", names: true, want: "/opt/checkpoint/criu"},
		"to one that is too long":     {program: program, dir: "/" + strings.Repeat("a", len(BuiltHome)), names: true, fails: true},
		"a library, which names none": {program: "\x7fELF…", dir: "/a"},
	} {
		t.Run(what, func(t *testing.T) {
			moved, names, err := Move([]byte(test.program), test.dir)
			if names != test.names || test.fails != (err != nil) {
				t.Fatalf("it names its folder: %t, %v", names, err)
			}
			if err != nil {
				return
			}
			if len(moved) != len(test.program) || strings.Count(string(moved), test.want) < strings.Count(test.program, BuiltHome) {
				t.Errorf("it became %q", moved)
			}
			if cut := strings.ReplaceAll(string(moved), "/", ""); names && cut != strings.ReplaceAll(strings.ReplaceAll(program, BuiltHome, test.want), "/", "") {
				t.Errorf("more than the folder was changed: %q", moved)
			}
		})
	}
}
