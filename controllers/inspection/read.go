package inspection

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/export"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
)

// Export writes the archive of a captured container, which checkpointctl reads. Without a name it is that of the only container.
func (i *Inspector) Export(ctx context.Context, of client.ObjectKey, container string, out io.Writer) (inspect.Sent, error) {
	s, err := i.state(ctx, of)
	if err != nil {
		return inspect.Sent{}, err
	}
	opened, err := s.folder.Open(ctx, s.name)
	if err != nil {
		return inspect.Sent{}, err
	}
	pod, err := export.Open(opened.Files(ctx))
	if err != nil {
		return inspect.Sent{}, err
	}
	if names := pod.Containers(); container == "" && len(names) != 1 {
		return inspect.Sent{}, fmt.Errorf("it has the containers %s: name one with --container", strings.Join(names, ", "))
	} else if container == "" {
		container = names[0]
	}
	counted := &counter{}
	hash := sha256.New()
	err = pod.Write(io.MultiWriter(out, hash, counted), container)
	return inspect.Sent{Bytes: counted.bytes, SHA256: hex.EncodeToString(hash.Sum(nil))}, err
}

type counter struct{ bytes int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

// Logs returns CRIU's logs of a capture that a bucket has: those in its state, or else those that its pod had sent for diagnosis. With restore it is those of
// the restore of the pod that claimed it.
func (i *Inspector) Logs(ctx context.Context, of client.ObjectKey, restore bool) (*inspect.Logs, error) {
	c, err := i.checkpoint(ctx, of)
	if err != nil {
		return nil, err
	}
	l := &inspect.Logs{}
	if !restore {
		err := i.logsOfState(ctx, of, l)
		if err != nil {
			l.Looked = append(l.Looked, "the state: "+err.Error())
		}
		if len(l.Found) > 0 {
			return l, nil
		}
	}
	return l, i.logsForDiagnosis(ctx, c, restore, l)
}

// logsOfState adds the logs that are a part of a state.
func (i *Inspector) logsOfState(ctx context.Context, of client.ObjectKey, l *inspect.Logs) error {
	s, err := i.state(ctx, of)
	if err != nil {
		return err
	}
	opened, err := s.folder.Open(ctx, s.name)
	if err != nil {
		return err
	}
	files := opened.Files(ctx)
	names, err := fs.Glob(files, "log/*/*.log")
	if err != nil {
		return err
	}
	for _, name := range names {
		file, err := files.Open(name)
		if err != nil {
			return err
		}
		text, err := end(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
		l.Found = append(l.Found, inspect.Log{Name: name, Where: "the state in location " + s.checkpoint.Status.LocationName, Text: text})
	}
	if len(names) == 0 {
		return errors.New("it has no logs in it")
	}
	return nil
}

// end returns the last inspect.MostLog bytes of what is read.
func end(r io.Reader) (string, error) {
	var kept []byte
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		kept = append(kept, buffer[:n]...)
		if len(kept) > 2*inspect.MostLog {
			kept = append(kept[:0], kept[len(kept)-inspect.MostLog:]...)
		}
		if errors.Is(err, io.EOF) {
			return string(kept[max(len(kept)-inspect.MostLog, 0):]), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// mostArchive bounds an archive of logs, in bytes: those that agents make have a few MiB.
const mostArchive = 64 << 20

// logsForDiagnosis adds what the pod has had sent, by the key memverge.ai/checkpoint-diagnosis.
func (i *Inspector) logsForDiagnosis(ctx context.Context, c *v1alpha1.Checkpoint, restore bool, l *inspect.Logs) error {
	pod, uid, which := c.Spec.SourcePodName, string(c.Spec.SourcePodUID), ""
	if c.Status.Source != nil {
		uid = string(c.Status.Source.PodUID)
	}
	if restore {
		claim := c.Status.Claim
		if claim == nil {
			l.Looked = append(l.Looked, "status.claim: no pod was restored from it")
			return nil
		}
		pod, uid, which = claim.PodName, string(claim.PodUID), "restore"
	}
	locations := &v1alpha1.CheckpointStorageLocationList{}
	if err := i.Reader.List(ctx, locations); err != nil {
		return err
	}
	prefix := fmt.Sprintf("%s/%s/%s_%s_%.8s_%s", keys.DiagnosisRoot, c.Namespace, c.Namespace, pod, uid, which)
	for n := range locations.Items {
		location := &locations.Items[n]
		found, err := i.archives(ctx, location, prefix, l)
		switch {
		case err != nil:
			l.Looked = append(l.Looked, fmt.Sprintf("location %s: %v", location.Name, err))
		case !found:
			l.Looked = append(l.Looked, fmt.Sprintf("location %s: nothing is below %s (pods with %s: %q send their logs)",
				location.Name, prefix, keys.CheckpointDiagnosis, keys.True))
		}
	}
	return nil
}

// archives adds the logs in the archives of a location whose keys begin with the prefix.
func (i *Inspector) archives(ctx context.Context, location *v1alpha1.CheckpointStorageLocation, prefix string, l *inspect.Logs) (found bool, err error) {
	b, err := i.bucket(ctx, location)
	if err != nil {
		return false, err
	}
	for info, err := range b.store.List(ctx, prefix, "") {
		if err != nil {
			return found, err
		}
		isOfRestore := strings.HasSuffix(info.Key, "_restore.tar.gz")
		if strings.HasSuffix(prefix, "_") && isOfRestore { // how the captured pod itself began
			continue
		}
		found = true
		if err := i.archive(ctx, b.store, info.Key, "location "+location.Name, l); err != nil {
			return found, fmt.Errorf("%s: %w", info.Key, err)
		}
	}
	return found, nil
}

// archive adds the logs in one archive.
func (i *Inspector) archive(ctx context.Context, store storage.Store, key, where string, l *inspect.Logs) error {
	body, err := store.Get(ctx, key, storage.Range{})
	if err != nil {
		return err
	}
	defer body.Close()
	packed, err := gzip.NewReader(body)
	if err != nil {
		return err
	}
	for archive := tar.NewReader(io.LimitReader(packed, mostArchive)); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if path.Ext(h.Name) != ".log" {
			continue
		}
		text, err := end(archive)
		if err != nil {
			return err
		}
		l.Found = append(l.Found, inspect.Log{Name: h.Name, Where: where + ", " + key, Text: text})
	}
}
