package turn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// arrival is somebody who waits: when it comes, and for how long it has its place.
type arrival struct {
	name       string
	at, stays  time.Duration
	background bool
}

// course has the arrivals wait in a line, and returns when each got its place, in that order.
func course(t *testing.T, line *Line, arrivals []arrival) (got []string) {
	t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	began := time.Now()
	for _, a := range arrivals {
		group.Go(func() {
			time.Sleep(a.at)
			ctx := t.Context()
			if a.background {
				ctx = Background(ctx)
			}
			leave, err := line.Wait(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			got = append(got, fmt.Sprintf("%s at %v", a.name, time.Since(began)))
			mu.Unlock()
			time.Sleep(a.stays)
			leave()
		})
	}
	group.Wait()
	return got
}

func TestOrder(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, test := range map[string]struct {
		places   int
		arrivals []arrival
		want     []string
	}{
		"as they come": {
			places:   1,
			arrivals: []arrival{{"a", 0, 5 * s, false}, {"b", 1 * s, 5 * s, false}, {"c", 2 * s, 5 * s, false}},
			want:     []string{"a at 0s", "b at 5s", "c at 10s"},
		},
		"background work is last": {
			places:   1,
			arrivals: []arrival{{"a", 0, 5 * s, false}, {"slow", 1 * s, 5 * s, true}, {"b", 2 * s, 5 * s, false}, {"c", 3 * s, 5 * s, false}},
			want:     []string{"a at 0s", "b at 5s", "c at 10s", "slow at 15s"},
		},
		"but not for ever": {
			places: 1,
			arrivals: []arrival{
				{"a", 0, 5 * s, false}, {"slow", 1 * s, 5 * s, true}, {"b", 4 * s, 5 * s, false}, {"c", 9 * s, 5 * s, false}, {"d", 12 * s, 5 * s, false},
			},
			want: []string{"a at 0s", "b at 5s", "c at 10s", "slow at 15s", "d at 20s"},
		},
		"it leaves half of the places to others": {
			places: 4,
			arrivals: []arrival{
				{"slow", 0, 60 * s, true}, {"slower", 1 * s, 60 * s, true}, {"slowest", 2 * s, 60 * s, true}, {"a", 40 * s, 5 * s, false}, {"b", 41 * s, 5 * s, false},
			},
			want: []string{"slow at 0s", "slower at 1s", "a at 40s", "b at 41s", "slowest at 1m0s"},
		},
		"it takes what is free": {
			places:   2,
			arrivals: []arrival{{"slow", 0, 5 * s, true}, {"a", 1 * s, 5 * s, false}, {"b", 2 * s, 5 * s, false}},
			want:     []string{"slow at 0s", "a at 1s", "b at 5s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(test.want, course(t, NewLine(test.places, 10*s), test.arrivals)); diff != "" {
					t.Errorf("turns (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestWhoeverLeavesTheLineTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := NewLine(1, time.Second)
		leave, err := line.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := line.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("have the error %v, want %v", err, context.DeadlineExceeded)
		}
		leave()
		leave() // which does nothing
		if leave, err = line.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := line.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the context has ended: have the error %v, want %v", err, context.DeadlineExceeded)
		}
		leave()
	})
}
