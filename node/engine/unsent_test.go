package engine

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	tcp_stream "github.com/checkpoint-restore/go-criu/v8/crit/images/tcp-stream"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

func stream(t *testing.T, unsent uint32) string {
	t.Helper()
	zero, length := uint32(0), uint32(5)
	entry, err := proto.Marshal(&tcp_stream.TcpStreamEntry{
		InqLen: &zero, InqSeq: &zero, OutqLen: &length, OutqSeq: &zero, OptMask: &zero, SndWscale: &zero, MssClamp: &zero, UnsqLen: &unsent,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(binary.LittleEndian.AppendUint32([]byte("8bytes!!"), uint32(len(entry)))) + string(entry) + "queue"
}

func TestDataThatWasNotSentCountsAsSent(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"tcp-stream-1.img": stream(t, 300), "tcp-stream-2.img": stream(t, 0), "files.img": "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := adaptStreams(dir); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[file.Name()] = string(content)
	}
	want := map[string]string{"tcp-stream-1.img": stream(t, 0), "tcp-stream-2.img": stream(t, 0), "files.img": "other"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzAdaptStream(f *testing.F) {
	f.Add([]byte("8bytes!!\x04\x00\x00\x00abcd"))
	f.Fuzz(func(t *testing.T, image []byte) {
		path := filepath.Join(t.TempDir(), "tcp-stream-1.img")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = adaptStream(path) // whatever it says
	})
}
