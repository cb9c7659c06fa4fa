package lab

import "testing"

func TestLastWords(t *testing.T) {
	for log, want := range map[string]string{
		"": "",
		"[    0.000000] Linux version 6.12\nworker-1 login: ":                                   "",
		"[   80.1] a line\n[   81.000000] Oops: int3: 0000 [#1] SMP\r\n[   81.1] CPU: 1 PID: 0": "[   81.000000] Oops: int3: 0000 [#1] SMP",
		"[    2.0] Kernel panic - not syncing: VFS\n":                                           "[    2.0] Kernel panic - not syncing: VFS",
	} {
		if got := lastWords(log); got != want {
			t.Errorf("last words of %q are %q, want %q", log, got, want)
		}
	}
}
