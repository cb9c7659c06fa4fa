package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/turn"
)

// UploadOptions say how to upload.
type UploadOptions struct {
	// Bases are checkpoints of the folder that may have much in common with the new one, the best first. The first that is there serves; that none is,
	// or none with its digest, is no error.
	Bases []Checkpoint
	// State is the path that the names of files begin with in which the upload notes how far it is: journal and index. After an error or a kill, another
	// upload of the same directory with the same state sends only what is missing. Without it, it sends all but the packs that are the same.
	State string
	// Background has the upload let all else go first, pack by pack, where it waits for memory, and in stores that know storage/turn.
	Background bool
	// Progress, unless nil, is told how far it is.
	Progress Progress
	// Trouble, unless nil, is told what could not be written to the disk, as that is full. The upload goes on without: without a journal another one sends
	// all again, without an index later ones share less.
	Trouble func(error)
}

const (
	journalSuffix = ".journal"
	indexSuffix   = ".index"

	perPacker    = 16 << 20 // bytes of files for which one packer is enough
	maxPackers   = 4
	maxFragments = 1.5 // a base whose frames hold more than this part of what it uses of them is none
)

// Upload stores a directory as a checkpoint of the folder. What lies at its top under a name that begins with "agent" is left out. The rest may be
// regular files and directories; anything else is storage.ErrInvalid, and the directory must not change meanwhile. The checkpoint is there when its
// manifest is, which is put last.
func (f *Folder) Upload(ctx context.Context, name, dir string, opts UploadOptions) (Summary, error) {
	if opts.Background {
		ctx = turn.Background(ctx)
	}
	summary, err := f.upload(ctx, name, dir, opts)
	if errors.Is(err, errLost) { // what it relied on was deleted meanwhile
		opts.Bases = nil
		if err = removeState(opts.State); err == nil {
			summary, err = f.upload(ctx, name, dir, opts)
		}
	}
	if err != nil {
		return summary, fmt.Errorf("upload %s: %w", dir, err)
	}
	return summary, nil
}

// errLost says that a pack is not in the store that was there a moment ago.
var errLost = fmt.Errorf("a pack of the checkpoint has vanished from the store: %w", storage.ErrCorrupt)

type uploader struct {
	*Folder
	name    string
	root    *os.Root
	m       *manifest
	items   []*item
	base    *base
	markKey []byte
	index   *os.File // its page marks, at marksAt of the entry
	marksAt map[int]int64
	marked  int64       // bytes of key and page marks
	noIndex atomic.Bool // the disk has no room for it
	trouble func(error)
	there   map[string]int64
	dir     string // for files without names
	journal *journal
	memory  *Memory
	tables  *tables

	mu       sync.Mutex
	progress Progress
	summary  Summary
	finished int64 // bytes
}

func (f *Folder) upload(ctx context.Context, name, dir string, opts UploadOptions) (summary Summary, err error) {
	if err := f.check(name); err != nil {
		return summary, err
	}
	u := &uploader{Folder: f, name: name, dir: os.TempDir(), memory: f.memory(), progress: opts.Progress, trouble: opts.Trouble, marksAt: map[int]int64{}}
	u.tables = u.memory.tables(up)
	if opts.State != "" {
		u.dir = filepath.Dir(opts.State)
	}
	if u.root, err = os.OpenRoot(dir); err != nil {
		return summary, err
	}
	defer u.root.Close()
	defer u.tables.give()
	if err := u.survey(ctx); err != nil {
		return summary, err
	}
	for i := range u.m.Entries {
		if u.m.Entries[i].Kind == kindFile {
			u.summary.Files++
			u.summary.Bytes += u.m.Entries[i].Size
		}
	}
	u.items = itemsOf(u.m)
	done, err := u.begin(ctx, opts)
	if err == nil && !done {
		err = u.run(ctx)
	}
	if u.base != nil {
		err = errors.Join(err, u.base.index.Close())
	}
	if u.index != nil {
		if closed := u.index.Close(); !IsDiskTrouble(closed) {
			err = errors.Join(err, closed)
		}
	}
	if u.journal != nil {
		err = errors.Join(err, u.journal.close())
	}
	return u.summary, err
}

// survey looks at what is to be sent.
func (u *uploader) survey(ctx context.Context) (err error) {
	if u.m, err = survey(u.root); err != nil {
		return err
	}
	if err := u.tables.take(ctx, 2*u.m.mapsSize()); err != nil {
		return err
	}
	return mapPages(u.root, u.m)
}

// begin finds out what is there: of an earlier attempt, and of a base. done says that nothing is left to do.
func (u *uploader) begin(ctx context.Context, opts UploadOptions) (done bool, err error) {
	head, lines := journalHead{}, []journalLine(nil)
	if opts.State != "" {
		head, lines = readJournal(opts.State+journalSuffix, u.Name, u.name)
	}
	if lines, done, err = u.ended(ctx, lines); done || err != nil {
		return done, err
	}
	bases := opts.Bases
	if head.Version != 0 { // the base of that time, or none
		bases = []Checkpoint{head.Base}
	}
	before := head.Base
	if head.Base, err = u.takeBase(ctx, bases); err != nil {
		return false, err
	}
	switch {
	case u.base != nil:
		head.MarkKey = u.base.key
	case len(head.MarkKey) != markKeySize:
		head.MarkKey = newMarkKey()
	}
	u.markKey = head.MarkKey
	head.Version, head.Folder, head.Name = formatVersion, u.Name, u.name
	own, err := u.list(ctx, packKind+"/"+u.name)
	if err != nil {
		return false, err
	}
	u.there = map[string]int64{}
	for name, size := range own {
		u.there[u.name+"/"+name] = size
	}
	if err := u.openIndex(opts.State); err != nil {
		return false, err
	}
	if lines, err = u.goOn(lines, u.base != nil && before == head.Base, opts.State); err != nil {
		return false, err
	}
	path := opts.State
	if path != "" {
		path += journalSuffix
	}
	u.journal, err = beginJournal(path, head, lines, func(err error) { u.tell("a journal", err) })
	return false, err
}

// ended looks whether an earlier attempt has noted its end, and the checkpoint is still there. If so, only the intent may be left. It returns the lines
// of packs.
func (u *uploader) ended(ctx context.Context, lines []journalLine) (packs []journalLine, done bool, err error) {
	for i := range lines {
		if lines[i].Digest == "" {
			packs = append(packs, lines[i])
			continue
		}
		switch _, err := u.manifest(ctx, Checkpoint{u.name, lines[i].Digest}, u.tables); {
		case err == nil:
			u.summary.ManifestDigest = lines[i].Digest
			return nil, true, u.Store.Delete(ctx, u.key(intentKind, u.name))
		case !errors.Is(err, storage.ErrNotExist) && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNoKey): // deleted, or another one
			return nil, false, err
		}
	}
	return packs, false, nil
}

// goOn takes over what an earlier attempt has sent, as far as it is there and encrypted with the key of today.
func (u *uploader) goOn(lines []journalLine, withBase bool, state string) (kept []journalLine, err error) {
	type place struct {
		path   string
		offset int64
	}
	var base *manifest
	if withBase {
		base = u.base.manifest
	}
	open := map[place]*item{}
	for _, it := range u.items {
		open[place{u.m.Entries[it.entry].Path, it.offset}] = it
	}
	packs := map[string]*madePack{}
	for i := range lines {
		noted := lines[i].Item
		if noted == nil {
			made, err := lines[i].made()
			if err == nil && u.there[made.Name] == made.size && made.Key == hex.EncodeToString(u.Keys.current()) {
				packs[made.Name] = made
				kept = append(kept, lines[i])
			}
			continue
		}
		made, it := packs[lines[i].Pack.Name], open[place{noted.Path, noted.Offset}]
		if made == nil || it == nil || it.done || it.length != noted.Length {
			continue
		}
		isMemory := len(u.m.Entries[it.entry].segments) > 0
		if !noted.apply(it, made, base, isMemory) {
			continue
		}
		if isMemory && noted.Ahead > 0 {
			if err := u.takeMarks(state, it, noted.Ahead-1); err != nil {
				return nil, err
			}
		}
		kept = append(kept, lines[i])
		u.finish(it, 0)
	}
	for _, it := range u.items {
		if !it.done {
			it.parts, it.marks, it.pack, it.shared = nil, nil, nil, 0
		}
	}
	return kept, nil
}

// takeBase chooses a base and protects its packs by the intent, without which nothing is put.
func (u *uploader) takeBase(ctx context.Context, bases []Checkpoint) (Checkpoint, error) {
	for _, b := range bases {
		if b.Name == "" || b.Name == u.name || !isDigest(b.Digest) {
			continue
		}
		taken, err := u.tryBase(ctx, b)
		switch {
		case errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil:
			return Checkpoint{}, errors.Join(err, ctx.Err())
		case err == nil && taken:
			return b, nil
		}
	}
	return Checkpoint{}, u.putIntent(ctx, u.name, []string{})
}

func (u *uploader) tryBase(ctx context.Context, b Checkpoint) (bool, error) {
	m, err := u.manifest(ctx, b, u.tables)
	if err != nil || m.Index == "" || m.PageSize != u.m.PageSize || m.isFragmented() || !m.hasKey(hex.EncodeToString(u.Keys.current())) {
		return false, err
	}
	packs := make([]string, len(m.Packs))
	for i := range m.Packs {
		packs[i] = m.Packs[i].Name
	}
	if err := u.putIntent(ctx, u.name, packs); err != nil {
		return false, err
	}
	if is, err := u.isThere(ctx, b); err != nil || !is { // if it is there, and still the same, its packs stay from now on
		return false, err
	}
	u.base, err = u.fetchBase(ctx, b, m, u.dir)
	if IsDiskTrouble(err) {
		u.tell("the base "+b.Name, err)
	}
	return err == nil, err
}

// isFragmented tells whether little of the frames is used.
func (m *manifest) isFragmented() bool {
	_, content := m.stored()
	used := int64(0)
	for i := range m.Entries {
		for _, x := range m.Entries[i].extents {
			if x.frame != hole {
				used += int64(x.length)
			}
		}
	}
	return float64(content) > maxFragments*float64(used)
}

// hasKey tells whether all packs are encrypted with a key, or none is if the key is empty.
func (m *manifest) hasKey(key string) bool {
	return !slices.ContainsFunc(m.Packs, func(p pack) bool { return p.Key != key })
}

// IsDiskTrouble tells of an error of writing whether it says that the disk is full or broken.
func IsDiskTrouble(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO)
}

// tell tells what the upload goes on without.
func (u *uploader) tell(without string, err error) {
	if u.trouble != nil {
		u.trouble(fmt.Errorf("upload without %s: %w", without, err))
	}
}

// openIndex makes the file for the marks of pages.
func (u *uploader) openIndex(state string) error {
	err := u.makeIndex(state)
	if IsDiskTrouble(err) {
		u.loseIndex(err)
		return nil
	}
	return err
}

// loseIndex says that there will be no index.
func (u *uploader) loseIndex(err error) {
	if !u.noIndex.Swap(true) {
		u.tell("an index", err)
	}
}

// writeMarks writes marks to their place in the index.
func (u *uploader) writeMarks(marks []byte, at int64) error {
	if u.noIndex.Load() {
		return nil
	}
	_, err := u.index.WriteAt(marks, at)
	if IsDiskTrouble(err) {
		u.loseIndex(err)
		return nil
	}
	return err
}

func (u *uploader) makeIndex(state string) (err error) {
	if state == "" {
		u.index, err = nameless(u.dir)
	} else {
		u.index, err = os.OpenFile(state+indexSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return err
	}
	u.marked = markKeySize
	for i := range u.m.Entries {
		if e := &u.m.Entries[i]; len(e.segments) > 0 {
			u.marksAt[i] = u.marked
			u.marked += e.Size / int64(u.m.PageSize) * markSize
		}
	}
	_, err = u.index.WriteAt(u.markKey, 0)
	return errors.Join(err, u.index.Truncate(u.marked))
}

// lookup begins to look for an entry's pages in the base; nil if that has none.
func (u *uploader) lookup(e *entry) *lookup {
	if u.base == nil || u.base.memory[e.PageMap] == nil {
		return nil
	}
	return &lookup{base: u.base, memory: u.base.memory[e.PageMap]}
}

// finish notes that an item is done, and how many bytes were sent for it.
func (u *uploader) finish(it *item, sent int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	it.done = true
	u.finished += it.length
	u.summary.Sent += sent
	u.summary.Shared += it.shared
	if u.progress != nil {
		u.progress(u.finished, u.summary.Bytes)
	}
}

// run sends what is left, and the manifest.
func (u *uploader) run(ctx context.Context) error {
	left, work := int64(0), make(chan *item)
	for _, it := range u.items {
		if !it.done {
			left += it.length
		}
	}
	group, working := errgroup.WithContext(ctx)
	for range min(maxPackers, int(left/perPacker)+1) {
		group.Go(func() error {
			encoder, err := newEncoder()
			if err != nil {
				return err
			}
			return (&packer{u: u, encoder: encoder}).run(working, work)
		})
	}
	group.Go(func() error {
		defer close(work)
		for _, it := range u.items {
			if it.done {
				continue
			}
			select {
			case work <- it:
			case <-working.Done():
				return working.Err()
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return u.conclude(ctx)
}

// conclude puts index and manifest, and sees that all is there.
func (u *uploader) conclude(ctx context.Context) error {
	packs := u.assemble()
	if u.base != nil {
		*u.base = base{index: u.base.index} // its tables are no longer needed
	}
	if err := u.putIndex(ctx); err != nil {
		return err
	}
	object, err := u.Keys.sealManifest(u.m)
	if err != nil {
		return err
	}
	if err := u.Store.Put(ctx, u.key(manifestKind, u.name), storage.Bytes(object), storage.PutOptions{}); err != nil {
		return err
	}
	there, err := u.list(ctx, packKind)
	if err != nil {
		return err
	}
	for _, p := range u.m.Packs {
		size, ok := there[p.Name]
		if own := packs[p.Name]; !ok || own != nil && own.size != size {
			return errors.Join(errLost, u.Store.Delete(ctx, u.key(manifestKind, u.name)))
		}
	}
	u.summary.ManifestDigest = digestOf(object)
	if err := u.journal.append(&journalLine{Digest: u.summary.ManifestDigest}); err != nil {
		return err
	}
	return u.Store.Delete(ctx, u.key(intentKind, u.name))
}

// assemble makes the manifest of what became of the items. It returns the packs of this checkpoint by name.
func (u *uploader) assemble() map[string]*madePack {
	own := map[string]*madePack{}
	for _, it := range u.items {
		if it.pack != nil {
			own[it.pack.Name] = it.pack
		}
	}
	first := map[string]uint32{} // number of a pack's first frame
	for _, name := range slices.Sorted(maps.Keys(own)) {
		number := uint32(len(u.m.Packs))
		u.m.Packs = append(u.m.Packs, own[name].pack)
		first[name] = uint32(len(u.m.frames))
		for _, f := range own[name].frames {
			f.pack = number
			u.m.frames = append(u.m.frames, f)
		}
	}
	shared, counts := u.sharedFrames(), make([]int, len(u.m.Entries))
	for _, it := range u.items {
		counts[it.entry] += len(it.parts)
	}
	for _, it := range u.items {
		e := &u.m.Entries[it.entry]
		if e.extents == nil {
			e.extents = make([]extent, 0, counts[it.entry])
		}
		for _, p := range it.parts {
			x := extent{p.length, hole, 0}
			switch p.from {
			case fromPack:
				x.frame, x.offset = first[it.pack.Name]+p.frame, p.offset
			case fromBase:
				x.frame, x.offset = shared[p.frame], p.offset
			}
			e.extents = appendExtent(e.extents, x, len(e.segments) > 0)
		}
		it.parts = nil // so that both tables are never there as a whole
	}
	return own
}

// sharedFrames appends the frames of the base that are used to the manifest, and returns their new numbers.
func (u *uploader) sharedFrames() map[uint32]uint32 {
	used := map[uint32]uint32{}
	for _, it := range u.items {
		for _, p := range it.parts {
			if p.from == fromBase {
				used[p.frame] = 0
			}
		}
	}
	packs := map[uint32]uint32{}
	for _, old := range slices.Sorted(maps.Keys(used)) {
		f := u.base.manifest.frames[old]
		number, ok := packs[f.pack]
		if !ok {
			number = uint32(len(u.m.Packs))
			packs[f.pack] = number
			u.m.Packs = append(u.m.Packs, u.base.manifest.Packs[f.pack])
		}
		f.pack = number
		used[old] = uint32(len(u.m.frames))
		u.m.frames = append(u.m.frames, f)
	}
	return used
}

// appendExtent appends an extent of memory, or makes the last one longer. Extents of other files stay as they are, for each has its mark.
func appendExtent(extents []extent, x extent, isMemory bool) []extent {
	if n := len(extents); n > 0 && isMemory {
		last := &extents[n-1]
		if follows := x.frame == hole || last.offset+last.length == x.offset; last.frame == x.frame && follows && last.length+x.length > last.length {
			last.length += x.length
			return extents
		}
	}
	return append(extents, x)
}

// putIndex puts the index: the key and the marks of pages from the file, then the marks of pieces. A checkpoint may lack it.
func (u *uploader) putIndex(ctx context.Context) error {
	if u.noIndex.Load() {
		return nil
	}
	object, size, err := u.sealIndex()
	if IsDiskTrouble(err) {
		u.loseIndex(err)
		return nil
	}
	if err != nil {
		return err
	}
	defer object.Close()
	return u.Store.Put(ctx, u.key(indexKind, u.name), storage.Section(object, 0, size), storage.PutOptions{})
}

// sealIndex makes the object in a file without a name, and notes its digest.
func (u *uploader) sealIndex() (_ *os.File, size int64, err error) {
	var pieces []byte
	for _, it := range u.items {
		if len(u.m.Entries[it.entry].segments) > 0 {
			continue // its marks are in the file
		}
		for _, k := range it.marks {
			pieces = append(pieces, k[:]...)
		}
	}
	payload := io.MultiReader(io.NewSectionReader(u.index, 0, u.marked), bytes.NewReader(pieces))
	object, err := nameless(u.dir)
	if err != nil {
		return nil, 0, err
	}
	hash := sha256.New()
	if err = u.Keys.seal(indexMagic, payload, io.MultiWriter(object, hash)); err == nil {
		size, err = object.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		return nil, 0, errors.Join(err, object.Close())
	}
	u.m.Index = digestAlgorithm + hex.EncodeToString(hash.Sum(nil))
	return object, size, nil
}
