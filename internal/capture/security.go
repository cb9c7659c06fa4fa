package capture

// Security is what a container's OCI spec allows it. CRIU restores the rights of processes, and the flags of mounts, as they were; so the new container
// must allow at least as much (design R2).
type Security struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// Groups are the supplementary groups.
	Groups []uint32 `json:"groups,omitempty"`
	// Capabilities are the names in a set, as CAP_CHOWN, by the name of the set: bounding, effective, permitted, inheritable, ambient.
	Capabilities    map[string][]string `json:"capabilities,omitempty"`
	NoNewPrivileges bool                `json:"noNewPrivileges,omitempty"`
	ReadOnlyRoot    bool                `json:"readOnlyRoot,omitempty"`
	// Seccomp is the SHA-256 of the filter as JSON; empty is none.
	Seccomp string `json:"seccomp,omitempty"`
	// AppArmor and SELinux are the profile and the label of its processes.
	AppArmor string `json:"appArmor,omitempty"`
	SELinux  string `json:"seLinux,omitempty"`
	// Masked and ReadOnly are the paths in /proc and /sys that are hidden, or cannot be written.
	Masked   []string `json:"masked,omitempty"`
	ReadOnly []string `json:"readOnly,omitempty"`
	// Mounts are the options that take something away, of ro, nosuid, nodev and noexec, by the destination of each bind mount.
	Mounts map[string][]string `json:"mounts,omitempty"`
}
