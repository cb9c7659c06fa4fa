package agent

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
)

// For how long the folder of a capture stays for diagnosis, and how many do on a node.
const (
	diagnosisTime = 24 * time.Hour
	diagnosisMost = 10
)

// retire is the end of a capture that has served, or failed: it is kept for diagnosis, if that is asked for, or else removed. One that nobody wants, or
// that goes to make room, is removed in any case.
func (a *Agent) retire(dir string) error {
	kept, err := a.keepForDiagnosis(dir)
	if err != nil {
		return err
	}
	if !kept {
		return a.remove(dir)
	}
	a.forgetFolder(dir)
	return nil
}

// aboutFile says in a folder that stays for diagnosis whose it is, and sentFile that its logs are in the bucket, and where.
const (
	aboutFile = "agent-about.json"
	sentFile  = "agent-sent"
)

// about is the file aboutFile: the pod, and its labels, by which the policy says where its logs go.
type about struct {
	capture.Pod
	Labels map[string]string `json:"labels,omitempty"`
}

// keepForDiagnosis moves the folder of a capture that is needed no more to where a person finds it, if its pod asks for that and the disk has room.
func (a *Agent) keepForDiagnosis(dir string) (kept bool, err error) {
	record, err := capture.Read(dir)
	if err != nil || !record.Settings.Diagnosis || a.nearlyFull(a.Node.CapturesRoot()) {
		return false, nil //nolint:nilerr // what cannot be read is of no use to anybody
	}
	of := about{Pod: record.Pod}
	if n, known, err := a.noteOf(record.Pod); err == nil && known {
		of.Labels = n.Source.Labels
	}
	if err := capture.WriteJSON(filepath.Join(dir, aboutFile), of); err != nil {
		return false, err
	}
	return true, a.keep(dir, of, fmt.Sprint(record.Sequence), "capture")
}

// keepRestore keeps what a restore left that has come to its end: logs, what was decided and what came of it, and the state.
func (a *Agent) keepRestore(pod *corev1.Pod, d *capture.Decision) error {
	settings, err := capture.ParseSettings(pod.Annotations[keys.Effective])
	of := about{Pod: capture.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}, Labels: pod.Labels}
	if err != nil || !settings.Diagnosis || d.Action != capture.Restore || a.nearlyFull(a.Node.CapturesRoot()) {
		return nil //nolint:nilerr // a pod without settings asks for nothing
	}
	done := filepath.Join(a.Node.Restores(string(pod.UID)), "agent-diagnosed") // once, though what is kept goes after a while
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	dir := filepath.Join(a.Node.Restores(string(pod.UID)), "diagnosis")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return err
	}
	for _, pattern := range []string{"*.json", "log-*/*"} {
		files, err := filepath.Glob(filepath.Join(a.Node.Restores(string(pod.UID)), pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := copyInto(dir, a.Node.Restores(string(pod.UID)), file); err != nil {
				return err
			}
		}
	}
	if isDirectory(d.Directory) {
		if err := linkTree(d.Directory, filepath.Join(dir, "state")); err != nil {
			return err
		}
	}
	if err := capture.WriteJSON(filepath.Join(dir, aboutFile), of); err != nil {
		return err
	}
	if err := a.keep(dir, of, "restore", "restore"); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

// copyInto copies a small file from below a folder to the same place below another.
func copyInto(to, from, file string) error {
	name, err := filepath.Rel(from, file)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	target := filepath.Join(to, name)
	return errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, data, 0o600))
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// diagnosisOf is where what a capture of that number, or the restore, left is kept.
func (a *Agent) diagnosisOf(of about, which string) string {
	return filepath.Join(a.Node.DiagnosisRoot(), fmt.Sprintf("%s_%s_%.8s_%s", of.Namespace, of.Name, of.UID, which))
}

// keep moves a folder to where it stays, and tells where that is.
func (a *Agent) keep(dir string, of about, which, what string) error {
	target := a.diagnosisOf(of, which)
	if err := errors.Join(os.MkdirAll(a.Node.DiagnosisRoot(), 0o700), os.RemoveAll(target)); err != nil {
		return err
	}
	if err := os.Rename(dir, target); err != nil {
		return err
	}
	now := a.Now()
	_ = os.Chtimes(target, now, now) // its age counts from here; if that fails it goes earlier
	a.Recorder.Eventf(of.object(), nil, corev1.EventTypeNormal, "DiagnosisKept", "Capture", "%s",
		v1alpha1.EventNote(fmt.Sprintf("images and logs of the %s are on node %s in %s, for %s at most", what, a.NodeName, target, diagnosisTime)))
	return nil
}

func (of about) object() *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID = of.Namespace, of.Name, uid(of.UID)
	pod.APIVersion, pod.Kind = "v1", "Pod"
	return pod
}

// tidyDiagnosis removes what was kept for long enough, and the oldest of too many. When the disk is nearly full all of it goes. Of what stays the logs are
// sent to the bucket.
func (a *Agent) tidyDiagnosis(ctx context.Context) {
	root := a.Node.DiagnosisRoot()
	type folder struct {
		path string
		kept time.Time
	}
	var all []folder
	for _, name := range namesIn(root) {
		if info, err := os.Stat(filepath.Join(root, name)); err == nil {
			all = append(all, folder{filepath.Join(root, name), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(x, y folder) int { return cmp.Compare(y.kept.UnixNano(), x.kept.UnixNano()) })
	full, failed := len(all) > 0 && a.nearlyFull(root), false
	for i, f := range all {
		if full || i >= diagnosisMost || a.Now().Sub(f.kept) > diagnosisTime {
			_ = os.RemoveAll(f.path) // the next turn tries again
			continue
		}
		if failed {
			continue
		}
		if err := a.sendLogs(ctx, f.path, f.kept); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "send logs for diagnosis", "folder", f.path)
			failed = true // the others would wait in vain as well, and the next turn comes
		}
	}
}

// sendLogs puts the logs in a folder that stays for diagnosis into the bucket that its pod's states go to, once, as one archive. A bucket whose states are
// encrypted gets none: they would not be. It is tried as long as a person may be waiting for it.
func (a *Agent) sendLogs(ctx context.Context, dir string, kept time.Time) error {
	const patience, attemptTime = 10 * time.Minute, 10 * time.Second
	if _, err := os.Stat(filepath.Join(dir, sentFile)); err == nil || a.Now().Sub(kept) > patience {
		return nil
	}
	of := about{}
	data, err := os.ReadFile(filepath.Join(dir, aboutFile))
	if err = errors.Join(err, json.Unmarshal(data, &of)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	checkpoint := &v1alpha1.Checkpoint{}
	checkpoint.Namespace = of.Namespace
	checkpoint.Status.Source = &v1alpha1.CheckpointSource{Labels: of.Labels}
	location, bucket, err := a.uploadBucket(ctx, checkpoint)
	if errors.As(err, new(noLocation)) {
		return nil
	}
	if err != nil {
		return err
	}
	said := fmt.Sprintf("not sent: location %s encrypts, which logs are not", location)
	if len(bucket.keys) == 0 {
		archive, err := archiveLogs(dir)
		if err != nil {
			return err
		}
		key := keys.DiagnosisRoot + "/" + of.Namespace + "/" + filepath.Base(dir) + ".tar.gz"
		if err := bucket.store.Put(ctx, key, storage.Bytes(archive), storage.PutOptions{}); err != nil {
			return err
		}
		said = fmt.Sprintf("logs are in location %s as %s", location, key)
	}
	if err := os.WriteFile(filepath.Join(dir, sentFile), []byte(said+"\n"), 0o600); err != nil {
		return err
	}
	_ = os.Chtimes(dir, kept, kept)
	a.Recorder.Eventf(of.object(), nil, corev1.EventTypeNormal, "DiagnosisSent", "Capture", "%s", v1alpha1.EventNote(said))
	return nil
}

// archiveLogs makes an archive of what in a folder is text for a person: logs, and what was decided and recorded. Images are none of it.
func archiveLogs(dir string) ([]byte, error) {
	const most = 8 << 20 // of one file; of a longer one its end
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	archive := tar.NewWriter(packed)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{"containers", "volumes", "pod", "state"}, name) {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() || filepath.Ext(name) != ".json" && filepath.Ext(name) != ".log" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data = data[max(len(data)-most, 0):]
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err = archive.Write(data)
		return err
	})
	err = errors.Join(err, archive.Close(), packed.Close())
	return out.Bytes(), err
}
