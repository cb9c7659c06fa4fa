package main

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// What is told is a line each: the pod, the life, the number.
func TestBooksKnowWhatMayFollow(t *testing.T) {
	type line struct {
		pod, life string
		count     int
	}
	for what, test := range map[string]struct {
		lines []line
		want  string
	}{
		"it goes on in another pod":        {[]line{{"a", "x", 1}, {"a", "x", 2}, {"b", "x", 3}}, ""},
		"an answer is lost":                {[]line{{"a", "x", 1}, {"b", "x", 3}}, ""},
		"another life begins":              {[]line{{"a", "x", 1}, {"b", "y", 1}}, ""},
		"a container is started anew":      {[]line{{"a", "x", 1}, {"a", "y", 1}}, ""},
		"an old state":                     {[]line{{"a", "x", 5}, {"b", "x", 4}}, "went back: pod b tells 4, after 5"},
		"a number twice":                   {[]line{{"a", "x", 5}, {"a", "x", 5}}, "went back"},
		"two pods at once":                 {[]line{{"a", "x", 1}, {"b", "x", 2}, {"a", "x", 3}}, "is in two pods: a and b"},
		"a pod that takes another's state": {[]line{{"a", "x", 1}, {"b", "y", 1}, {"b", "x", 2}}, "another pod's"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBooks()
			for _, l := range test.lines {
				b.note(holder{name: l.pod, uid: types.UID(l.pod)}, told{l.life, l.count}, time.Now())
			}
			_, _, violations := b.state()
			if got := strings.Join(violations, "\n"); test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("violations are %q, want %q", got, test.want)
			}
		})
	}
}

func TestLivesThatNobodySpeaksForAreLeft(t *testing.T) {
	b := newBooks()
	a, other := holder{name: "a", uid: "1"}, holder{name: "b", uid: "2"}
	b.note(a, told{"x", 1}, time.Now())
	b.note(other, told{"y", 1}, time.Now())
	b.note(holder{name: "c", uid: "3"}, told{"y", 2}, time.Now())
	if left := b.without([]holder{a, other}); len(left) != 1 || left["y"].name != "c" {
		t.Errorf("left are %+v", left)
	}
}

func TestALateAnswerProvesNothing(t *testing.T) {
	b, asked := newBooks(), time.Now()
	b.note(holder{name: "a", uid: "1"}, told{"x", 1}, asked)
	b.note(holder{name: "b", uid: "2"}, told{"x", 3}, time.Now())
	b.note(holder{name: "a", uid: "1"}, told{"x", 2}, asked)
	if _, _, violations := b.state(); len(violations) > 0 {
		t.Errorf("it violates %q", violations)
	}
}
