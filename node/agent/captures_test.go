package agent

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// The life of a capture (docs/designs/0008-claims.md), explored: what the real agent and the real manager do with what a runtime leaves behind, one
// situation after another until there is no new one.

func checkpointNamed(namespace, name string) client.Object {
	return &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// exploration is a search through all situations.
type exploration struct {
	*life
	known map[[sha256.Size]byte]int // the place of a situation in all
	all   []*situation
	// next are the situations to which each leads by itself: without faults, and without that time passes.
	next [][]int
	most int // faults
	// useless are moves that change nothing.
	useless map[change]bool
	// made is what moves of processes have led to.
	made  map[change]made
	rows  map[row]string // with the history of the first one
	runs  int
	wrong map[string]string

	last *situation
}

// insertion has others move in the middle of a process's work.
type insertion struct {
	at   int
	what string
}

func (e *exploration) add(s *situation, history string) int {
	if at, is := e.known[s.hash]; is {
		return at
	}
	s.history = history
	at := len(e.all)
	e.known[s.hash] = at
	e.all, e.next = append(e.all, s), append(e.next, nil)
	return at
}

// observe compares the situation with the last one that was seen.
func (e *exploration) observe(by who, history string) *situation {
	e.dirty = by != byManager && by != byRetention && by != byPerson && by != byWorld
	s := e.keep()
	if s.hash == e.last.hash {
		return s
	}
	for _, r := range follow(e.last.see(), s.see(), by) {
		if e.rows[r] == "" {
			e.rows[r] = history
		}
	}
	for _, w := range e.check(e.last, s, by) {
		e.note(w, history)
	}
	e.last = s
	return s
}

func (e *exploration) note(wrong, history string) {
	if old, is := e.wrong[wrong]; !is || len(history) < len(old) {
		e.wrong[wrong] = history
	}
}

// crossing is a moment before or after a write of a process that makes a move.
type crossing struct {
	situation *situation
	// others are what else could have happened then.
	others []string
}

// make makes a move, with others in between, and returns what came of it.
func (e *exploration) make(from *situation, m move, history string, between ...insertion) (to *situation, crossings []crossing) {
	e.putBack(from)
	e.last, e.deletes = from, false
	e.runs++
	if m.long {
		e.between = func() {
			now := crossing{situation: e.observe(m.who, history)}
			e.nested = true
			for _, other := range e.moves() {
				switch {
				case slices.Contains(between, insertion{len(crossings), other.what}):
					before := e.last
					e.after = func() { e.observe(other.who, history) }
					other.do(e.life)
					e.learn(other, before, e.observe(other.who, history))
				case other.who != m.who && !other.kills && (!e.deletes || !other.long) && !e.useless[change{now.situation.shared, other.what}]:
					now.others = append(now.others, other.what)
				}
			}
			e.nested = false
			crossings = append(crossings, now)
		}
	}
	m.do(e.life)
	e.between = nil
	to = e.observe(m.who, history)
	e.learn(m, from, to)
	return to, crossings
}

// change is a move of a process in what it sees.
type change struct {
	shared [sha256.Size]byte
	what   string
}

// learn remembers of a manager's move that it changes nothing.
func (e *exploration) learn(m move, before, after *situation) {
	if (m.who == byManager || m.who == byRetention) && before.hash == after.hash {
		e.useless[change{before.shared, m.what}] = true
	}
}

// of returns by what a move of a process is known again: it does the same when it sees the same.
func (m move) of(s *situation) change {
	if m.who == byAgent {
		return change{s.near, m.what}
	}
	return change{s.shared, m.what}
}

// again makes a move that was made before, in all that its process sees.
func (e *exploration) again(from *situation, m move) (to *situation, crossings []crossing, is bool) {
	known, is := e.made[m.of(from)]
	if !is {
		return nil, nil, false
	}
	then := func(there *situation) *situation {
		return from.with(func(s *situation) {
			if m.who == byAgent {
				s.server, s.bucket, s.disk, s.memory, s.asked = there.server, there.bucket, there.disk, there.memory, there.asked
			} else { // it may be another manifest, which differs by its times
				s.server, s.bucket = there.server.like(known.from, from), there.bucket.of(from)
			}
		})
	}
	for _, c := range known.crossings {
		crossings = append(crossings, crossing{situation: then(c.situation)})
	}
	return then(known.to), crossings, true
}

// made is what a move of a process has led to, and where from.
type made struct {
	from, to  *situation
	crossings []crossing
}

// like is an API server in which is what is in another, where the one situation was, and not the other: their manifests differ in their times.
func (s server) like(was, is *situation) server {
	old, now := was.checkpoint(), is.checkpoint()
	if old == nil || now == nil || old.Status.ManifestDigest == now.Status.ManifestDigest {
		return s
	}
	objects := maps.Clone(s.objects)
	for key, o := range objects {
		o.data = strings.ReplaceAll(o.data, old.Status.ManifestDigest, now.Status.ManifestDigest)
		objects[key] = o
	}
	return server{objects: objects, writes: s.writes, made: s.made}
}

// of has of the bucket of a situation what is left.
func (b bucketOf) of(s *situation) bucketOf {
	left := maps.Clone(s.bucket)
	maps.DeleteFunc(left, func(key string, _ []byte) bool { _, is := b[key]; return !is })
	return left
}

// with is a situation with a change that is not on the disk.
func (s *situation) with(change func(*situation)) *situation {
	other := *s
	other.of, other.look = nil, nil
	change(&other)
	other.sum()
	return &other
}

// die adds what becomes of a process that is killed at one of these moments, alone or with all of its node.
func (e *exploration) die(m move, crossings []crossing, history string) {
	for i, c := range crossings {
		if c.situation.faults == 0 {
			continue
		}
		history := history + fmt.Sprintf("\n    and is killed at %d", i)
		e.add(c.situation.with(func(s *situation) {
			s.faults--
			if m.who == byAgent {
				s.memory = map[string]publication{}
			}
		}), history)
		if m.who == byAgent {
			e.add(c.situation.with(func(s *situation) { s.faults-- }).withoutPower(), history+" with its node")
		}
	}
}

func (e *exploration) explore(first *situation) {
	e.add(first, "")
	for at := 0; at < len(e.all); at++ {
		from := e.all[at]
		e.putBack(from)
		settled := true
		for _, m := range e.moves() {
			history := from.history + "\n  " + m.what
			to, crossings, known := e.again(from, m)
			if !known || from.faults == e.most { // where others may come in between
				to, crossings = e.make(from, m, history)
			}
			if isProcess := m.who == byManager || m.who == byRetention || m.who == byAgent; isProcess && !known {
				e.made[m.of(from)] = made{from, to, crossings}
			}
			e.die(m, crossings, history)
			if next := e.add(to, history); !m.fault && next != at {
				settled = false
				e.next[at] = append(e.next[at], next)
			}
			for i := 0; i < len(crossings) && from.faults == e.most; i += 2 { // before each write
				for _, what := range crossings[i].others {
					history := fmt.Sprintf("%s, and at %d %s", history, i, what)
					to, crossings := e.make(from, m, history, insertion{i, what})
					e.die(m, crossings, history)
					e.add(to, history)
				}
			}
			e.putBack(from) // for the next one
		}
		if settled {
			e.rest(at)
		}
	}
}

// rest keeps the rules for a situation in which nothing is left to do, and lets time pass.
func (e *exploration) rest(at int) {
	from := e.all[at]
	for _, w := range e.atRest(from) {
		e.note(w, from.history)
	}
	e.next[at] = append(e.next[at], at)
	if from.clock+1 < len(hours) {
		e.add(from.with(func(s *situation) { s.clock++ }), from.history+"\n  time passes")
	}
}

// endless are the situations from which none is reached in which nothing is left to do.
func (e *exploration) endless() (found []*situation) {
	before, reached := make([][]int, len(e.all)), make([]bool, len(e.all))
	var left []int
	for at, next := range e.next {
		for _, to := range next {
			before[to] = append(before[to], at)
			if to == at {
				reached[at] = true
				left = append(left, at)
			}
		}
	}
	for len(left) > 0 {
		at := left[0]
		left = left[1:]
		for _, from := range before[at] {
			if !reached[from] {
				reached[from] = true
				left = append(left, from)
			}
		}
	}
	for at, is := range reached {
		if !is {
			found = append(found, e.all[at])
		}
	}
	return found
}

func TestTheLifeOfACapture(t *testing.T) {
	most, err := strconv.Atoi(os.Getenv("CAPTURE_FAULTS"))
	if err != nil {
		t.Skip("it takes a minute with CAPTURE_FAULTS=1, and hours with 2")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	began, l := time.Now(), newLife(t)
	l.faults = most
	e := &exploration{
		life: l, most: most, known: map[[sha256.Size]byte]int{}, rows: map[row]string{}, wrong: map[string]string{}, useless: map[change]bool{},
		made: map[change]made{},
	}
	e.explore(l.keep())
	t.Logf("%d situations, %d runs, in %s", len(e.all), e.runs, time.Since(began))
	for _, s := range e.endless() {
		e.note("it never comes to rest", s.history)
	}
	for _, w := range slices.Sorted(maps.Keys(e.wrong)) {
		t.Errorf("%s%s", w, e.wrong[w])
	}
	documented, err := table("../../docs/designs/0008-claims.md")
	if err != nil {
		t.Fatal(err)
	}
	for r, history := range e.rows {
		if !documented[r] && most < 2 {
			t.Errorf("the page does not have %s%s", r, history)
		}
	}
	for r := range documented {
		if e.rows[r] == "" {
			t.Errorf("this never happens: %s", r)
		}
	}
}
