package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	tcp_stream "github.com/checkpoint-restore/go-criu/v8/crit/images/tcp-stream"
	"google.golang.org/protobuf/proto"
)

// maxStreamEntry bounds what CRIU writes of a connection beside its data, in bytes.
const maxStreamEntry = 64 << 10

// adaptStreams has the data of connections that had not been sent yet count as sent and not acknowledged. CRIU puts what was sent back into the
// queue, and the kernel sends it again some time after. But what was not sent CRIU sends at once, in the middle of the restore; then the other end,
// inside the same pod, may not be there yet, and the connection is reset. CRIU guards against that by packet filters, which nodes need not have.
func adaptStreams(images string) error {
	files, err := filepath.Glob(filepath.Join(images, "tcp-stream-*.img"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := adaptStream(file); err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

// adaptStream changes one image, if need be: a head, the length of an entry, the entry, the data received, and the data to send.
func adaptStream(path string) error {
	image, err := os.Open(path)
	if err != nil {
		return err
	}
	defer image.Close()
	head := make([]byte, magicSize+4)
	if _, err := io.ReadFull(image, head); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(head[magicSize:])
	if length > maxStreamEntry {
		return fmt.Errorf("its entry has %d bytes; it may have %d", length, maxStreamEntry)
	}
	encoded := make([]byte, length)
	if _, err := io.ReadFull(image, encoded); err != nil {
		return err
	}
	entry := &tcp_stream.TcpStreamEntry{}
	if err := proto.Unmarshal(encoded, entry); err != nil {
		return err
	}
	if entry.GetUnsqLen() == 0 {
		return nil
	}
	entry.UnsqLen = proto.Uint32(0)
	if encoded, err = proto.Marshal(entry); err != nil {
		return err
	}
	temporary := path + ".new" // the image may be a link to one that others need as it is
	out, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(append(binary.LittleEndian.AppendUint32(head[:magicSize], uint32(len(encoded))), encoded...))
	if err == nil {
		_, err = io.Copy(out, image)
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
