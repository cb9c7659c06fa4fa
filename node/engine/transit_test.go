package engine

import (
	"errors"
	"fmt"
	"testing"
)

func TestWhatIsOnItsWayIsDumpedAgain(t *testing.T) {
	says := func(line string) error { return &CRIUError{Lines: []string{line}} }
	for what, test := range map[string]struct {
		err  error
		want bool
	}{
		"a connection that has brought data":     {says("Error (criu/sk-unix.c:506): unix: Non-empty write queue on an in-flight socket 0x5ab40"), true},
		"a connection that was closed meanwhile": {says("Error (criu/sk-unix.c:525): unix: Found a closed in-flight socket to 0x1b"), true},
		"something that does not pass":           {says("Error (criu/sk-netlink.c:77): netlink: The socket has data to read"), false},
		"no word of CRIU":                        {errors.New("Found a closed in-flight socket"), false},
		"none":                                   {nil, false},
	} {
		t.Run(what, func(t *testing.T) {
			err := test.err
			if err != nil {
				err = fmt.Errorf("container %q: %w", "app", err)
			}
			if got := inTransit(err); got != test.want {
				t.Errorf("it says %t", got)
			}
		})
	}
}
