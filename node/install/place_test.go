package install

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWhatIsThereIsNotInstalledAgain(t *testing.T) {
	long := time.Unix(1e9, 0)
	for what, test := range map[string]struct {
		has   string // empty: nothing
		wants string
		stays bool
	}{
		"nothing is there": {wants: "new"},
		"another is there": {has: "old", wants: "new"},
		"it is there":      {has: "new", wants: "new", stays: true},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			from, program, config := filepath.Join(dir, "from"), filepath.Join(dir, "program"), filepath.Join(dir, "a/folder/config.toml")
			if err := os.MkdirAll(filepath.Dir(config), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(from, []byte(test.wants), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{program, config} {
				if test.has == "" {
					continue
				}
				if err := os.WriteFile(path, []byte(test.has), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, long, long); err != nil {
					t.Fatal(err)
				}
			}
			if err := copyWhenOther(from, program); err != nil {
				t.Fatal(err)
			}
			written, err := writeWhenOther(config, []byte(test.wants))
			if err != nil || written == test.stays {
				t.Errorf("it is written: %t, %v", written, err)
			}
			for _, path := range []string{program, config} {
				got, err := os.ReadFile(path)
				info, statErr := os.Stat(path)
				if err != nil || statErr != nil || string(got) != test.wants || info.ModTime().Equal(long) != test.stays {
					t.Errorf("%s is %q, of %s", path, got, info.ModTime())
				}
			}
			if info, err := os.Stat(program); err != nil || info.Mode().Perm()&0o100 == 0 {
				t.Errorf("the program cannot be run: %v", info.Mode())
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
				t.Errorf("beside it lie %v", left)
			}
		})
	}
}
