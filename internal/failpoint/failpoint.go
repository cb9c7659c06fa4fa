// Package failpoint marks steps at which a test may end or hold a process of ours, where a kill from outside would hit by luck alone. In what users get
// a step costs nothing: only a build with the tag failpoints looks for what is wished (make images BUILD_TAGS=failpoints).
package failpoint

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Point is a step: what is behind it when it is reached.
type Point string

// The steps of a capture, in the runtime.
const (
	CaptureFrozen    Point = "capture-frozen"    // the processes are held; nothing is written
	CaptureBegun     Point = "capture-begun"     // the partial folder is there
	CaptureDumped    Point = "capture-dumped"    // CRIU has written the processes; files are not copied
	CaptureRecorded  Point = "capture-recorded"  // all is there, and said to be; the processes are held
	CaptureEnded     Point = "capture-ended"     // the processes have got their KILL; the folder is still partial
	CapturePublished Point = "capture-published" // the folder has its name; the disk may not have it
)

// The steps of a restore, in the runtime.
const (
	RestoreBegun   Point = "restore-begun"   // the result says that it was attempted
	RestoreFiles   Point = "restore-files"   // the files are there; no process is
	RestoreRunning Point = "restore-running" // the processes are there; the result does not say so
)

// The steps of the agent.
const (
	PublishCreated Point = "publish-created" // the Checkpoint is there, as far as the capture is
	UploadNoted    Point = "upload-noted"    // the folder says where the state goes; nothing is sent
	UploadDone     Point = "upload-done"     // the bucket has all; the Checkpoint does not say so
	ClaimNoted     Point = "claim-noted"     // the node knows what is going to be claimed
	ClaimMade      Point = "claim-made"      // the Checkpoint is claimed; nothing is fetched
	Fetched        Point = "fetched"         // the state is on the node; nothing is decided
)

// Runtime and Agent are the steps of the two programs.
func Runtime() []Point {
	return []Point{
		CaptureFrozen, CaptureBegun, CaptureDumped, CaptureRecorded, CaptureEnded, CapturePublished, RestoreBegun, RestoreFiles, RestoreRunning,
	}
}

// Agent returns those of the agent.
func Agent() []Point {
	return []Point{PublishCreated, UploadNoted, UploadDone, ClaimNoted, ClaimMade, Fetched}
}

// Folder is where a node's wishes lie, a file for each step that has its name: "kill" ends the process that comes there next, and "hold 2s" holds it for
// that long. Whoever grants a wish has renamed the file first, to one that ends in Granted.
const (
	Folder  = "/run/checkpoint/failpoints"
	Granted = ".granted"
)

// hit grants the wish for a step that lies in a folder.
func hit(folder string, p Point) {
	path := filepath.Join(folder, string(p))
	wish, err := os.ReadFile(path)
	if err != nil || os.Rename(path, path+Granted) != nil { // another process was faster
		return
	}
	if pause, is := strings.CutPrefix(strings.TrimSpace(string(wish)), "hold "); is {
		if d, err := time.ParseDuration(pause); err == nil {
			time.Sleep(d)
		}
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it is delivered
}
