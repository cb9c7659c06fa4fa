package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/stored"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// sight is what a situation looks like: the columns of the table of transitions, and what the rules are about.
type sight struct {
	folders                            map[string]string // by their number
	ready, captured, uploaded, objects string
}

const nothing = "nothing"

func (s *situation) see() sight {
	if s.look != nil {
		return *s.look
	}
	v := sight{folders: map[string]string{}, ready: nothing, captured: nothing, uploaded: nothing, objects: nothing}
	for name := range s.disk {
		folder, isTop := strings.CutSuffix(strings.TrimPrefix(name, "/"), "/")
		number := strings.TrimSuffix(folder, ".partial")
		if isTop && !strings.Contains(folder, "/") && !strings.HasPrefix(folder, "removed-") {
			v.folders[number] = s.folder(folder)
		}
	}
	if c := s.checkpoint(); c != nil {
		v.ready, v.captured, v.uploaded = readyOf(c), reasonOf(c, v1alpha1.CheckpointCaptured), reasonOf(c, v1alpha1.CheckpointUploaded)
	}
	for key := range s.bucket {
		if kind := path.Base(path.Dir(key)); kind == "manifests" {
			v.objects = "stored"
		} else if v.objects == nothing {
			v.objects = "begun"
		}
	}
	s.look = &v
	return v
}

// folder names the state of a folder.
func (s *situation) folder(name string) string {
	has := func(file string) bool { _, has := s.disk["/"+name+"/"+file]; return has }
	data, isPartial := s.disk["/"+name+"/"+capture.FileName], strings.HasSuffix(name, ".partial")
	if data == "" {
		return "begun"
	}
	record, err := capture.Parse([]byte(data))
	switch {
	case err != nil:
		return err.Error()
	case isPartial && record.State == capture.Complete:
		return "unnamed"
	case isPartial && record.State == capture.Failed:
		return "failing"
	case isPartial && has("killed"):
		return "killed"
	case isPartial || record.State == capture.Failed:
		return string(record.State)
	case has(capture.DiscardedFile):
		return "discarded"
	case has(capture.UploadedFile):
		return "uploaded"
	case has(capture.SyncedFile):
		return "synced"
	}
	return string(record.State)
}

func readyOf(c *v1alpha1.Checkpoint) string {
	if !c.DeletionTimestamp.IsZero() {
		return "deleted"
	}
	if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil {
		return ready.Reason
	}
	return "made"
}

// reasonOf is the reason of a condition that the agent writes. Those of captures that failed count as one.
func reasonOf(c *v1alpha1.Checkpoint, kind string) string {
	found := meta.FindStatusCondition(c.Status.Conditions, kind)
	switch {
	case found == nil:
		return nothing
	case slices.Contains(capture.Reasons(), capture.Reason(found.Reason)):
		return "Failed"
	}
	return found.Reason
}

// row is one row of the table of transitions.
type row struct {
	of, from, to string
	by           who
}

func (r row) String() string { return fmt.Sprintf("| %s | %s | %s | %s |", r.of, r.from, r.to, r.by) }

// follow returns the rows of the table by which one look leads to the next.
func follow(was, is sight, by who) (rows []row) {
	add := func(of, from, to string) {
		if from != to {
			rows = append(rows, row{of, from, to, by})
		}
	}
	for number := range maps.Keys(union(was.folders, is.folders)) {
		from, to := was.folders[number], is.folders[number]
		if from == "" {
			from = nothing
		}
		if to == "" {
			to = nothing
		}
		add("folder", from, to)
	}
	add("objects", was.objects, is.objects)
	add("Ready", was.ready, is.ready)
	if is.ready != nothing { // with a Checkpoint go its conditions
		add("Captured", was.captured, is.captured)
		add("Uploaded", was.uploaded, is.uploaded)
	}
	return rows
}

func union(x, y map[string]string) map[string]string {
	all := maps.Clone(x)
	maps.Copy(all, y)
	return all
}

// table reads the transitions from the page that documents them.
func table(file string) (rows map[row]bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows = map[row]bool{}
	inTable := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text := lines.Text()
		inTable = inTable && strings.HasPrefix(text, "|") || strings.HasPrefix(text, "| of | from | to | by |")
		cells := strings.Split(strings.Trim(text, "| "), "|")
		if !inTable || len(cells) < 4 || strings.HasPrefix(text, "| of |") || strings.HasPrefix(text, "|---") {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		for from := range strings.SplitSeq(cells[1], ", ") {
			for by := range strings.SplitSeq(cells[3], ", ") {
				rows[row{cells[0], from, cells[2], who(by)}] = true
			}
		}
	}
	return rows, nil
}

// content is what the bucket has: by the names of checkpoints their digest and the program's memory, or what is wrong.
func (l *life) content(s *situation) map[string]string {
	found := map[string]string{}
	for key := range s.bucket {
		if path.Base(path.Dir(key)) != "manifests" {
			continue
		}
		hash := sha256.New()
		for _, other := range slices.Sorted(maps.Keys(s.bucket)) {
			data := s.bucket[other]
			if other == key {
				data = withoutTimes(data)
			}
			_, _ = fmt.Fprintf(hash, "%s %x\n", other, sha256.Sum256(data))
		}
		sum, digest := [sha256.Size]byte(hash.Sum(nil)), fmt.Sprintf("sha256:%x", sha256.Sum256(s.bucket[key]))
		if l.contents[sum] == "" {
			f := &image.Folder{Store: &memory{objects: s.bucket}, Name: path.Dir(path.Dir(key))}
			l.contents[sum] = read(f, image.Checkpoint{Name: path.Base(key), Digest: digest})
		}
		found[path.Base(key)] = digest + " " + l.contents[sum]
	}
	return found
}

// withoutTimes leaves out of a manifest when its files were written, and the sums in its head.
func withoutTimes(manifest []byte) []byte {
	_, manifest, _ = bytes.Cut(manifest, []byte("{"))
	parts := bytes.Split(manifest, []byte(`"modified":`))
	for i := 1; i < len(parts); i++ {
		parts[i] = bytes.TrimLeft(parts[i], "0123456789")
	}
	return bytes.Join(parts, nil)
}

// read reads all files of a checkpoint, and returns its memory.
func read(f *image.Folder, c image.Checkpoint) (memory string) {
	opened, err := f.Discover(context.Background(), c.Name)
	if err != nil {
		return "damaged: " + err.Error()
	}
	if opened.Checkpoint != c {
		return fmt.Sprintf("damaged: it is %v", opened.Checkpoint)
	}
	for _, name := range []string{capture.FileName, stored.FileName, "containers/app/criu/pages-1.img"} {
		data, err := opened.ReadFile(context.Background(), name, 1<<20)
		if err != nil {
			return "damaged: " + err.Error()
		}
		memory = string(data)
	}
	return memory
}

// check keeps the rules for every situation, and for the step that led to it. Was is nil at the beginning.
func (l *life) check(was, is *situation, by who) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	content := l.content(is)
	for name, has := range content {
		if !strings.Contains(has, " memory of life ") {
			say("whole: the bucket has a manifest of %s, and not all of it: %s", name, has)
		}
	}
	c := is.checkpoint()
	alive := c != nil && c.DeletionTimestamp.IsZero()
	if alive && meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointUploaded) {
		if !strings.HasPrefix(content[c.StorageName()], c.Status.ManifestDigest+" ") || c.Status.ManifestDigest == "" {
			say("uploaded: the Checkpoint says that it is uploaded with the manifest %q, and the bucket has %q", c.Status.ManifestDigest, content)
		}
	}
	if alive && meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointCaptured) && content[c.StorageName()] == "" && !is.hasWhole() {
		say("captured: the Checkpoint says that it is captured, and neither node nor bucket has it")
	}
	if alive && meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointReady) && c.Status.ManifestDigest == "" {
		say("ready: the Checkpoint says that it is ready, and was never uploaded")
	}
	if was == nil {
		return wrong
	}
	before := was.see().folders
	for number, state := range before {
		if _, still := is.see().folders[number]; still || by == byRuntime || by == byNode {
			continue
		}
		ahead := was.checkpoint()
		var m memo
		if err := json.Unmarshal([]byte(was.disk["/"+number+"/"+memoFile]), &m); err != nil {
			m = memo{}
		}
		isWanted := ahead != nil && ahead.DeletionTimestamp.IsZero() && alive && (m.CheckpointUID == "" || m.CheckpointUID == c.StorageName())
		switch {
		case state == "complete" || state == "synced" || state == "uploaded":
			if isWanted && !was.isFollowed(number) && content[c.StorageName()] == "" {
				say("dropped: the node's copy %s is gone, which was %s, and the bucket does not have it", number, state)
			}
		case state != "discarded" && state != "failed":
			say("dropped: folder %s is gone, which was %s", number, state)
		}
	}
	if old := was.checkpoint(); old != nil && (c == nil || c.UID != old.UID) && by == byManager {
		for key := range is.bucket {
			if strings.Contains(key, "/"+old.StorageName()) {
				say("deleted: the manager has let the Checkpoint go, and the bucket has %s", key)
			}
		}
	}
	return wrong
}

// hasWhole tells whether the node has a complete capture whose memory can be read.
func (s *situation) hasWhole() bool {
	for name, data := range s.disk {
		if folder, is := strings.CutSuffix(name, "/containers/app/criu/pages-1.img"); is && strings.HasPrefix(data, "memory of life ") &&
			!strings.HasSuffix(folder, ".partial") {
			return true
		}
	}
	return false
}

// isFollowed tells whether there is a later complete capture.
func (s *situation) isFollowed(than string) bool {
	for name := range s.disk {
		folder := strings.Trim(name, "/")
		if number(folder) > number(than) {
			return true
		}
	}
	return false
}

// atRest keeps the rules for when nothing is left to do, at the hour that it is.
func (l *life) atRest(s *situation) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	c, content, v := s.checkpoint(), l.content(s), s.see()
	if c != nil && !c.DeletionTimestamp.IsZero() {
		if c.DeletionTimestamp.Time.Equal(testNow.Add(hours[s.clock])) { // an upload may be under way
			return nil
		}
		say("at rest: the Checkpoint is deleted, and is there with the finalizers %v", c.Finalizers)
	}
	for number, state := range v.folders {
		if state != "uploaded" || s.clock >= 2 {
			say("at rest: the node has the folder %s, which is %s", number, state)
		}
	}
	for key := range s.bucket {
		kind := path.Base(path.Dir(key))
		if c == nil || !strings.Contains(key, "/"+c.StorageName()) || kind == "intents" && v.ready == v1alpha1.StateCompleted {
			say("at rest: the bucket has %s", strings.TrimPrefix(key, keys.StorageRoot))
		}
	}
	if s.clock >= len(hours)-1 {
		if c != nil || len(s.bucket) > 0 {
			say("at rest: nothing is to be left when it is too old, and there are %s and %d objects", v.ready, len(s.bucket))
		}
		return wrong
	}
	if s.clock > 2 || s.deleted > 0 { // what a person does not want need not be there
		return wrong
	}
	switch {
	case s.final == isLast:
		want := contentOf(s.lives)
		if c == nil || v.ready != v1alpha1.StateCompleted || !strings.HasSuffix(content[c.StorageName()], " "+want) {
			say("at rest: the last state is lost: the Checkpoint is %s, and the bucket has %v; it should have %s", v.ready, content, want)
		}
	case c != nil && v.ready == v1alpha1.StateCompleted && s.final != mayBeLast:
		say("at rest: the Checkpoint is %s, and there is no last state", v.ready)
	case s.failed && (c == nil || v.ready != v1alpha1.StateFailed) && v.ready != v1alpha1.StateCompleted:
		say("at rest: the capture failed, and the Checkpoint is %s", v.ready)
	}
	if c != nil {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
		if ready == nil || ready.Message == "" || ready.Status == metav1.ConditionFalse && s.clock >= 2 && ready.Reason == v1alpha1.StatePending {
			say("at rest: the Checkpoint does not say what became of it: %+v", ready)
		}
	}
	return wrong
}
