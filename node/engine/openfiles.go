package engine

import (
	"net/netip"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// maxFilesSize bounds the image of a container's open files, in bytes.
const maxFilesSize = 256 << 20

// adaptOpenFiles changes the captured open sockets for the network namespace of that file, and mends what CRIU writes wrongly.
func adaptOpenFiles(images, network string) error {
	var own map[netip.Addr]bool
	err := inNamespace(network, unix.CLONE_NEWNET, func() (err error) {
		own, err = ownAddresses()
		return err
	})
	if err != nil {
		return err
	}
	return rewriteImage(filepath.Join(images, "files.img"), maxFilesSize, func(image []byte) ([]byte, error) {
		adapted, err := adaptSockets(image, own)
		if err != nil {
			return nil, err
		}
		if adapted, err = trimProcFolders(adapted); err != nil {
			return nil, err
		}
		return armTimers(adapted)
	})
}

// editFiles returns an image of open files with the entries changed of which change says so. All others stay as they are, byte by byte.
func editFiles(image []byte, change func(*fdinfo.FileEntry) bool) ([]byte, error) {
	return mapEntries(image, func(entry []byte) ([]byte, error) {
		file := &fdinfo.FileEntry{}
		if err := proto.Unmarshal(entry, file); err != nil || !change(file) {
			return entry, err
		}
		return proto.Marshal(file)
	})
}
