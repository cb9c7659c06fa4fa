package v1alpha1

import (
	"strings"
	"testing"
)

func TestTerminationName(t *testing.T) {
	const uid = "0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e"
	for name, tc := range map[string]struct{ pod, want string }{
		"the name of a pod with eight digits of its UID": {
			pod: "web-7d9f8c6b5-x2x4z", want: "web-7d9f8c6b5-x2x4z-0f2d4c1a",
		},
		"a name that just fits stays whole": {
			pod: strings.Repeat("a", 54), want: strings.Repeat("a", 54) + "-0f2d4c1a",
		},
		"a longer name is cut and gets a hash of the whole": {
			pod: strings.Repeat("a", 55), want: strings.Repeat("a", 45) + "-9f4390f8-0f2d4c1a",
		},
		"another long name with the same beginning gets another hash": {
			pod: strings.Repeat("a", 56), want: strings.Repeat("a", 45) + "-b35439a4-0f2d4c1a",
		},
		"a cut behind a dot leaves no dot before the hash": {
			pod: strings.Repeat("a", 44) + "." + strings.Repeat("b", 20), want: strings.Repeat("a", 44) + "-c2f847a7-0f2d4c1a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := TerminationName(tc.pod, uid)
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if len(got) > MaxNameLength {
				t.Errorf("%s has %d characters", got, len(got))
			}
		})
	}
}

func TestNamesThatACheckpointCanHave(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "web-1.b": true, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, "": false, "Web": false, "a_b": false, "a/b": false, "-a": false,
	} {
		if IsName(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}
