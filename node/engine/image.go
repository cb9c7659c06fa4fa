package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
)

// magicSize is that of an image's head: two numbers.
const magicSize = 8

// adaptImages changes what CRIU has written of a container so that it can be restored in a new one, in a pod of which network is the namespace; own
// is what the new container has of its own, as in Container.
func adaptImages(images, network string, own map[string]string) error {
	if network != "" {
		if err := adaptOpenFiles(images, network); err != nil {
			return err
		}
	}
	return errors.Join(adaptOwn(images, own), adaptMounts(images), restartCalls(images), adoptSessions(images))
}

// hasConnections tells whether a container had TCP connections when it was captured.
func hasConnections(images string) (bool, error) {
	streams, err := filepath.Glob(filepath.Join(images, "tcp-stream-*.img"))
	return len(streams) > 0, err
}

// rewriteImage changes a file of CRIU's, which has at most so many bytes, and leaves it alone when nothing changes.
func rewriteImage(path string, most int64, change func(image []byte) ([]byte, error)) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > most {
		return fmt.Errorf("%s has %d bytes; it may have %d", info.Name(), info.Size(), most)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := change(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", info.Name(), err)
	}
	if bytes.Equal(changed, data) {
		return nil
	}
	return replaceFile(path, changed)
}

// mapEntries returns an image with each of its entries as change returns it, less those for which it returns errDropped (https://criu.org/Images#Image_format).
func mapEntries(image []byte, change func(entry []byte) ([]byte, error)) ([]byte, error) {
	if len(image) < magicSize {
		return nil, errors.New("it has no head")
	}
	out := append(make([]byte, 0, len(image)), image[:magicSize]...)
	for rest := image[magicSize:]; len(rest) > 0; {
		if len(rest) < 4 || int64(binary.LittleEndian.Uint32(rest)) > int64(len(rest)-4) {
			return nil, errors.New("an entry is cut short")
		}
		entry := rest[4 : 4+binary.LittleEndian.Uint32(rest)]
		rest = rest[4+len(entry):]
		changed, err := change(entry)
		if errors.Is(err, errDropped) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(changed)))
		out = append(out, changed...)
	}
	return out, nil
}

// edit is what becomes of an entry.
type edit int

const (
	leaveEntry edit = iota // as it is, byte by byte
	changeEntry
	dropEntry
)

// editImage rewrites the entries of an image. The decision gets each, may change it, and says what becomes of it.
func editImage[M proto.Message](path string, empty func() M, decide func(M) edit) error {
	return rewriteImage(path, maxFilesSize, func(image []byte) ([]byte, error) {
		return mapEntries(image, func(entry []byte) ([]byte, error) {
			message := empty()
			if err := proto.Unmarshal(entry, message); err != nil {
				return nil, err
			}
			switch decide(message) {
			case dropEntry:
				return nil, errDropped
			case changeEntry:
				return proto.Marshal(message)
			}
			return entry, nil
		})
	})
}

// errDropped has mapEntries leave an entry out.
var errDropped = errors.New("the entry is dropped")
