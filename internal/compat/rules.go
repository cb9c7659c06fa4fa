package compat

import (
	"fmt"
	"slices"
	"strings"
)

// CPURule says how processors are compared.
type CPURule string

// The rules for processors.
const (
	// CPUSubset: the machine must have every instruction that the captured program may have chosen at its start. It is the default.
	CPUSubset CPURule = "Subset"
	// CPUIgnore: it may lack some; a program that uses one ends by SIGILL.
	CPUIgnore CPURule = "Ignore"
)

// KernelRule says how kernels are compared, by the first two numbers of their releases.
type KernelRule string

// The rules for kernels.
const (
	// KernelSameOrNewer is the default: programs and CRIU may rely on what the kernel of the capture had.
	KernelSameOrNewer KernelRule = "SameOrNewer"
	KernelSame        KernelRule = "Same"
	KernelAny         KernelRule = "Any"
)

// Rules are what machines are compared by. The zero value is the defaults. Architecture and page size are always compared.
type Rules struct {
	CPU    CPURule    `json:"cpu,omitempty"`
	Kernel KernelRule `json:"kernel,omitempty"`
}

// Mismatch says in what a machine, or a pod, does not do for a captured program.
type Mismatch struct {
	// Field is what differs, as "instructions".
	Field string
	// Has is what there is, and Wants what the program needs.
	Has, Wants string
}

// Error names the field, what it has and what it has to be.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("%s: this node has %s; the captured program needs %s", m.Field, m.Has, m.Wants)
}

// Check returns a Mismatch unless a program that was captured on a machine with the one facts can go on on a machine with the others.
func (r Rules) Check(here, captured Facts) error {
	if captured == (Facts{}) { // a capture of before these were recorded
		return nil
	}
	if here.Architecture != captured.Architecture {
		return &Mismatch{"architecture", here.Architecture, captured.Architecture}
	}
	if here.PageSize != captured.PageSize {
		return &Mismatch{"page size", fmt.Sprint(here.PageSize), fmt.Sprint(captured.PageSize)}
	}
	if err := r.checkKernel(here.Kernel, captured.Kernel); err != nil {
		return err
	}
	if r.CPU == CPUIgnore {
		return nil
	}
	has := set(here.Instructions)
	missing := slices.DeleteFunc(strings.Fields(captured.Instructions), func(name string) bool { return has[name] })
	if len(missing) > 0 {
		return &Mismatch{"instructions of the processor", "no " + strings.Join(missing, " "), "them, as it may have chosen them at its start"}
	}
	if here.XSave > 0 && here.XSave < captured.XSave {
		return &Mismatch{"registers of the processor", fmt.Sprintf("%d bytes of them to save", here.XSave), fmt.Sprint(captured.XSave)}
	}
	return nil
}

func (r Rules) checkKernel(here, captured string) error {
	has, wants := version(here), version(captured)
	switch {
	case r.Kernel == KernelAny || has == wants || captured == "":
		return nil
	case r.Kernel == KernelSame:
		return &Mismatch{"kernel", here, fmt.Sprintf("the same as %s", captured)}
	case slices.Compare(has[:], wants[:]) < 0:
		return &Mismatch{"kernel", here, fmt.Sprintf("%s or newer", captured)}
	}
	return nil
}

// version is the first two numbers of a kernel's release; what cannot be read is 0.
func version(release string) (numbers [2]int) {
	_, _ = fmt.Sscanf(release, "%d.%d", &numbers[0], &numbers[1])
	return numbers
}
