//go:build failpoints

package failpoint

// Hit says that a step is reached, and grants what is wished there, once.
func Hit(p Point) { hit(Folder, p) }
