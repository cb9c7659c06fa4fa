package engine

import (
	"context"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestOnlySoManyPlacesAreTakenAtOnce(t *testing.T) {
	places := turns{dir: t.TempDir(), count: 2}
	var held []*podLock
	for range 2 {
		place, err := places.try()
		if place == nil || err != nil {
			t.Fatalf("no place is free: %v", err)
		}
		held = append(held, place)
	}
	if place, err := places.try(); place != nil || err != nil {
		t.Errorf("a third one gets %v, %v", place, err)
	}
	if place := places.await(t.Logf, func() bool { return false }); place != nil {
		t.Error("who does not wait gets a place that is not free")
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		held[1].release()
	}()
	place := places.await(t.Logf, func() bool { return true })
	if place == nil {
		t.Error("who waits gets none")
	}
	place.release()
	held[0].release()
	held[0].release() // again is no harm
}

// A pod waits for its turn as long as its signals may mean all of it, and as long as its end can be put off.
func TestWhoWaitsForATurn(t *testing.T) {
	of := func(id string) member {
		return member{Container: &Container{ID: id, Name: id, Pod: capture.Pod{UID: uidOfPod}}}
	}
	for what, test := range map[string]struct {
		members []member
		kill    time.Duration // how long ago it came; 0 for not
		goes    bool
		quick   bool // it does not wait until it is told to stop
	}{
		"a pod of one container waits":                           {members: []member{of("a")}, goes: true},
		"one of two, of which one got a signal, does not":        {members: []member{of("a"), of("b")}, quick: true},
		"one whose KILL came a moment ago waits":                 {members: []member{of("a")}, kill: time.Second, goes: true},
		"one whose KILL cannot be put off for long goes at once": {members: []member{of("a")}, kill: killPatience/2 + time.Second, goes: true, quick: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := quiet(t)
			places := turnsOf(e.Node, "capture")
			for range places.count {
				place, err := places.try()
				if err != nil {
					t.Fatal(err)
				}
				defer place.release()
			}
			a := &attempt{engine: e, podUID: uidOfPod, members: test.members, owed: signalsOf(e.Node, uidOfPod)}
			notes := []Signal{{ContainerID: "a", Name: "TERM", Came: time.Now()}}
			if test.kill > 0 {
				notes = append(notes, Signal{ContainerID: "a", Name: "KILL", Came: time.Now().Add(-test.kill)})
			}
			for _, note := range notes {
				if err := a.owed.note(note); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			place, goes := a.awaitTurn(ctx)
			if place != nil || goes != test.goes || test.quick == (ctx.Err() != nil) {
				t.Errorf("it gets %v, goes %t, waited until the end: %t", place, goes, ctx.Err() != nil)
			}
		})
	}
}
