package compat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Facts are those of a machine, as a capture records them.
type Facts struct {
	// Architecture is as Go names it: amd64.
	Architecture string `json:"architecture"`
	// Kernel is the release, as 6.12.43+deb13-amd64. Its first two numbers are compared.
	Kernel string `json:"kernel"`
	// PageSize is that of memory, in bytes.
	PageSize int `json:"pageSize"`
	// Instructions are the names of extensions that programs use when the processor has them, in order, separated by spaces, as Linux names them in
	// /proc/cpuinfo: "adx aes avx avx2".
	Instructions string `json:"instructions,omitempty"`
	// XSave is the room, in bytes, that the kernel needs on a stack to deliver a signal. It grows with the registers that a processor has and saves
	// by xsave, which is the area that CRIU restores. 0 where the kernel does not tell it (before 5.14).
	XSave int `json:"xsave,omitempty"`
	// ControlGroups is the version of the control groups that containers get: 1 or 2. 0 is what a machine had that was not asked for it. It is no reason
	// against a machine: a restore has the one version stand for the other.
	ControlGroups int `json:"controlGroups,omitempty"`
}

// Class is the same for machines that are the same by all that is compared. It can be the value of a label.
func (f Facts) Class() string {
	text := fmt.Sprintf("%s %v %d %d %s", f.Architecture, version(f.Kernel), f.PageSize, f.XSave, f.Instructions)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
