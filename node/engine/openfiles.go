package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	// magicSize is that of an image's head: two numbers.
	magicSize = 8
	// maxFilesSize bounds the image of a container's open files, in bytes.
	maxFilesSize = 256 << 20
)

// adaptOpenFiles changes the captured open files for the new container: sockets for the network namespace of that file, and files in volumes that
// kubelet has written anew.
func adaptOpenFiles(images, network string, mounts []specs.Mount) error {
	var own map[netip.Addr]bool
	err := inNamespace(network, unix.CLONE_NEWNET, func() (err error) {
		own, err = ownAddresses()
		return err
	})
	if err != nil {
		return err
	}
	path := filepath.Join(images, "files.img")
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxFilesSize {
		return fmt.Errorf("files.img has %d bytes; it may have %d", info.Size(), maxFilesSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	adapted, err := adaptSockets(data, own)
	if err == nil {
		adapted, err = adaptWritten(adapted, writtenVolumes(mounts))
	}
	if err != nil {
		return fmt.Errorf("read files.img: %w", err)
	}
	if slices.Equal(adapted, data) {
		return nil
	}
	return replaceFile(path, adapted)
}

// editFiles returns an image of open files with the entries changed of which change says so. All others stay as they are, byte by byte.
func editFiles(image []byte, change func(*fdinfo.FileEntry) bool) ([]byte, error) {
	if len(image) < magicSize {
		return nil, errors.New("it has no head")
	}
	out := slices.Clone(image[:magicSize])
	for rest := image[magicSize:]; len(rest) > 0; {
		if len(rest) < 4 || int64(binary.LittleEndian.Uint32(rest)) > int64(len(rest)-4) {
			return nil, errors.New("an entry is cut short")
		}
		entry := rest[4 : 4+binary.LittleEndian.Uint32(rest)]
		rest = rest[4+len(entry):]
		file := &fdinfo.FileEntry{}
		if err := proto.Unmarshal(entry, file); err != nil {
			return nil, err
		}
		if change(file) {
			var err error
			if entry, err = proto.Marshal(file); err != nil {
				return nil, err
			}
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(entry)))
		out = append(out, entry...)
	}
	return out, nil
}
