package engine

import "testing"

func TestOnlyARestoreIsRelayed(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		args []string
		want bool
	}{
		"a restore":                 {[]string{"swrk", "3"}, true},
		"a question for a version":  {[]string{"swrk", "8"}, false},
		"another command":           {[]string{"check"}, false},
		"a command that it is like": {[]string{"swrk", "3", "--more"}, false},
		"none":                      {nil, false},
	} {
		if got := isRestore(test.args); got != test.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}
