package engine

import (
	"regexp"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// inProcFolder is a name in the folder that /proc has of a process, with that folder and the name's first part behind it.
var inProcFolder = regexp.MustCompile(`(?s)^(/proc/[0-9]+)/([^/]*)`)

// procFolders are the folders in it (proc(5)).
var procFolders = map[string]bool{"attr": true, "fd": true, "fdinfo": true, "map_files": true, "net": true, "ns": true, "task": true}

// trimProcFolders takes away what CRIU 4.2 has behind the name of an open folder that /proc has of a process: where it looks whether the process has
// ended it writes a slash over the end of the name, and what follows in its memory becomes a part of it
// (https://github.com/checkpoint-restore/criu/blob/v4.2/criu/files-reg.c, check_path_remap). No such file would be found at the restore.
func trimProcFolders(image []byte) ([]byte, error) {
	return editFiles(image, func(file *fdinfo.FileEntry) bool {
		folder := file.GetReg()
		if folder == nil || folder.GetMode()&unix.S_IFMT != unix.S_IFDIR {
			return false
		}
		parts := inProcFolder.FindStringSubmatch(folder.GetName())
		if parts == nil || procFolders[parts[2]] {
			return false
		}
		folder.Name = proto.String(parts[1])
		return true
	})
}
