package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"google.golang.org/protobuf/proto"

	"github.com/transparent-checkpoint/operator/storage/image"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/s3"
)

// What the store is measured with: a process of so much memory.
const (
	storeMiB     = 2048
	pageSize     = 4096
	changedPages = 20 // one of so many
	criuFolder   = "containers/app/criu"
)

// storeTimes is one pair of everything that is measured of the image store.
type storeTimes struct {
	Put, Upload         time.Duration // of pages that cannot be compressed
	Get, Fetch          time.Duration
	PutHalf, UploadHalf time.Duration // of pages of which a half can be
	Second              time.Duration // the same with 5 % of the pages changed
	FirstBytes          int64         // that UploadHalf sends
	SecondBytes         int64
	CPU                 map[string]float64 // seconds per GiB, by what is done
	RssAnonMiB          map[string]int64   // the most
}

// shop measures on the node.
type shop struct {
	reference *reference
	folder    *image.Folder
	dir       string
	times     storeTimes
}

// measureStore measures one pair, our part first or last.
func measureStore(ctx context.Context, access, number string) (_ *storeTimes, err error) {
	s, err := newShop(ctx, access)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	noise, half := filepath.Join(s.dir, "noise"), filepath.Join(s.dir, "half")
	if err := errors.Join(makePages(noise, 1, pageSize), makePages(half, 2, pageSize/2)); err != nil {
		return nil, err
	}
	put := func() error {
		return errors.Join(s.time("put", &s.times.Put, func() error { return s.put(ctx, "noise", noise) }),
			s.time("get", &s.times.Get, func() error { return s.reference.get(ctx, "noise", filepath.Join(s.dir, "got")) }),
			s.time("put-half", &s.times.PutHalf, func() error { return s.put(ctx, "half", half) }))
	}
	ours := func() error { return s.ours(ctx, noise, half) }
	steps := []func() error{put, ours}
	if number == "1" {
		steps = []func() error{ours, put}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &s.times, errors.Join(s.folder.Delete(ctx, "noise"), s.folder.Delete(ctx, "first"), s.folder.Delete(ctx, "second"),
		s.reference.remove(ctx, "noise"), s.reference.remove(ctx, "half"))
}

func newShop(ctx context.Context, access string) (*shop, error) {
	r, err := openReference(ctx, access)
	if err != nil {
		return nil, err
	}
	s := &shop{reference: r, dir: filepath.Join(home, "store"), times: storeTimes{CPU: map[string]float64{}, RssAnonMiB: map[string]int64{}}}
	store, err := s3.New(s3.Options{
		Endpoint: "http://" + r.s3.InCluster, Bucket: referenceBucket, PathStyle: true, PartSize: image.MaxPack,
		Credentials: s3.Credentials{AccessKey: r.s3.AccessKey, SecretKey: r.s3.SecretKey},
	})
	if err != nil {
		return nil, err
	}
	s.folder = &image.Folder{Store: retry.New(store, retry.Options{FirstWait: time.Second, LongestWait: time.Second, Limit: time.Minute}), Name: "bench"}
	return s, os.RemoveAll(s.dir)
}

// ours uploads and fetches with the image store.
func (s *shop) ours(ctx context.Context, noise, half string) error {
	upload := func(name, dir string, took *time.Duration, bases ...image.Checkpoint) (c image.Checkpoint, sent int64, err error) {
		err = s.time(name, took, func() error {
			summary, err := s.folder.Upload(ctx, name, dir, image.UploadOptions{Bases: bases, State: dir + "-state"})
			c, sent = image.Checkpoint{Name: name, Digest: summary.ManifestDigest}, summary.Sent
			return err
		})
		return c, sent, err
	}
	c, _, err := upload("noise", noise, &s.times.Upload)
	if err != nil {
		return err
	}
	err = s.time("fetch", &s.times.Fetch, func() error {
		_, err := s.folder.Fetch(ctx, c, filepath.Join(s.dir, "fetched"), nil)
		return err
	})
	if err != nil {
		return err
	}
	first, sent, err := upload("first", half, &s.times.UploadHalf)
	if err != nil {
		return err
	}
	s.times.FirstBytes = sent
	if err := changePages(pagesIn(half)); err != nil {
		return err
	}
	_, s.times.SecondBytes, err = upload("second", half, &s.times.Second, first)
	return err
}

// time does work and notes how long it took, and what of processor and memory.
func (s *shop) time(what string, took *time.Duration, work func() error) error {
	syscall.Sync()
	debug.FreeOSMemory()
	stop, most := make(chan struct{}), make(chan int64)
	go watchMemory(stop, most)
	before, start := processorTime(), time.Now()
	err := work()
	*took = time.Since(start)
	s.times.CPU[what] = round((processorTime() - before).Seconds() / (storeMiB / 1024))
	close(stop)
	s.times.RssAnonMiB[what] = <-most
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it never fails for oneself
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (s *shop) put(ctx context.Context, object, dir string) error {
	_, err := s.reference.put(ctx, object, pagesIn(dir))
	return err
}

func pagesIn(dir string) string { return filepath.Join(dir, criuFolder, "pages-1.img") }

// makePages makes CRIU's images of a process whose pages begin with so many random bytes.
func makePages(dir string, seed byte, random int) (err error) {
	if err := os.MkdirAll(filepath.Join(dir, criuFolder), 0o700); err != nil {
		return err
	}
	head, err := proto.Marshal(&pagemap.PagemapHead{PagesId: proto.Uint32(1)})
	if err != nil {
		return err
	}
	const pages = storeMiB << 20 / pageSize
	entry, err := proto.Marshal(&pagemap.PagemapEntry{
		Vaddr: proto.Uint64(0x7f0000000000), CompatNrPages: proto.Uint32(pages), NrPages: proto.Uint64(pages), Flags: proto.Uint32(1 << 2),
	})
	if err != nil {
		return err
	}
	data := binary.LittleEndian.AppendUint32(nil, 0x54564319)
	data = binary.LittleEndian.AppendUint32(data, 0x56084025)
	for _, message := range [][]byte{head, entry} {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(message))), message...)
	}
	if err := os.WriteFile(filepath.Join(dir, criuFolder, "pagemap-1.img"), data, 0o600); err != nil {
		return err
	}
	file, err := os.Create(pagesIn(dir))
	if err != nil {
		return err
	}
	out, source, page := bufio.NewWriterSize(file, 1<<20), rand.NewChaCha8([32]byte{seed}), make([]byte, pageSize)
	for i := range page {
		page[i] = byte(i / 64)
	}
	for range pages {
		_, _ = source.Read(page[:random]) // it never fails
		if _, err := out.Write(page); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return errors.Join(out.Flush(), file.Close())
}

// changePages changes pages here and there.
func changePages(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range storeMiB << 20 / pageSize / changedPages {
		at := random.Int64N(storeMiB<<20/pageSize) * pageSize
		if _, err := file.WriteAt(binary.LittleEndian.AppendUint64(nil, random.Uint64()), at); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// measureStorePair measures a pair on the node.
func (d *driver) measureStorePair(ctx context.Context, number int) error {
	if d.referenceOnly {
		return nil
	}
	access, err := json.Marshal(d.s3)
	if err != nil {
		return err
	}
	var took storeTimes
	if err := d.onNode(ctx, &took, "store", string(access), fmt.Sprint(number%2)); err != nil {
		return err
	}
	say("pair %d: put %v, upload %v; get %v, fetch %v; put of half %v, upload %v; second %v with %d of %d MiB", number+1, short(took.Put), short(took.Upload),
		short(took.Get), short(took.Fetch), short(took.PutHalf), short(took.UploadHalf), short(took.Second), took.SecondBytes>>20, took.FirstBytes>>20)
	say("processor seconds per GiB %v, RssAnon in MiB %v", took.CPU, took.RssAnonMiB)
	for name, pair := range map[string][2]time.Duration{
		uploadNoise: {took.Upload, took.Put}, uploadHalf: {took.UploadHalf, took.PutHalf}, fetchNoise: {took.Fetch, took.Get},
		secondTime: {took.Second, took.UploadHalf}, secondBytes: {time.Duration(took.SecondBytes), time.Duration(took.FirstBytes)},
	} {
		d.ours.add(name, pair[0])
		d.reference.add(name, pair[1])
	}
	return nil
}
