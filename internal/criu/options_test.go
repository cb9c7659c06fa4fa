package criu

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptions(t *testing.T) {
	const mayDump = "ext-unix-sk, file-locks, ghost-limit=SIZE, link-remap, skip-in-flight, tcp-close and tcp-established"
	const maySize = "it may be a number of bytes from 1 to 4G, as 64M"
	for name, test := range map[string]struct {
		phase Phase
		list  string
		want  []string
		err   string
	}{
		"none":                            {phase: Dump, list: ""},
		"nothing between commas":          {phase: Dump, list: " , ,"},
		"one":                             {phase: Dump, list: "tcp-established", want: []string{"tcp-established"}},
		"several, with blanks and dashes": {phase: Dump, list: " --link-remap, file-locks ,ext-unix-sk", want: []string{"link-remap", "file-locks", "ext-unix-sk"}},
		"the same twice":                  {phase: Dump, list: "link-remap,--link-remap", want: []string{"link-remap"}},
		"a size":                          {phase: Dump, list: "ghost-limit=4M", want: []string{"ghost-limit 4194304"}},
		"a size as on a command line":     {phase: Dump, list: "--ghost-limit 4K", want: []string{"ghost-limit 4096"}},
		"a size in bytes":                 {phase: Dump, list: "ghost-limit 1", want: []string{"ghost-limit 1"}},
		"the largest":                     {phase: Dump, list: "ghost-limit=4G", want: []string{"ghost-limit 4294967296"}},
		"larger":                          {phase: Dump, list: "ghost-limit=17G", err: `gives ghost-limit the value "17G"; ` + maySize},
		"so large that it overflows":      {phase: Dump, list: "ghost-limit=1099511627775G", err: `gives ghost-limit the value "1099511627775G"; ` + maySize},
		"nothing":                         {phase: Dump, list: "ghost-limit=0", err: `gives ghost-limit the value "0"; ` + maySize},
		"less than nothing":               {phase: Dump, list: "ghost-limit=-1", err: `gives ghost-limit the value "-1"; ` + maySize},
		"another unit":                    {phase: Dump, list: "ghost-limit=4T", err: `gives ghost-limit the value "4T"; ` + maySize},
		"no size":                         {phase: Dump, list: "ghost-limit", err: `gives ghost-limit the value ""; ` + maySize},
		"a value where none is taken":     {phase: Dump, list: "link-remap=yes", err: `gives link-remap the value "yes"; it takes none`},
		"both ways with connections":      {phase: Dump, list: "tcp-close,tcp-established", err: `names "tcp-close" and "tcp-established"; it may name one of them`},
		"a program of the node":           {phase: Dump, list: "--action-script /x", err: `names "action-script"; it may name ` + mayDump},
		"a second line":                   {phase: Dump, list: "link-remap\nexec-cmd", err: `names "link-remap\nexec-cmd"; it may name ` + mayDump},
		"one of a capture at a restore": {
			phase: Restore, list: "ghost-limit=4M", err: `names "ghost-limit"; it may name file-locks, link-remap, skip-in-flight, tcp-close and tcp-established`,
		},
		"those of a restore": {
			phase: Restore, list: "tcp-close,file-locks,skip-in-flight,link-remap", want: []string{"tcp-close", "file-locks", "skip-in-flight", "link-remap"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseOptions(test.phase, test.list)
			if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("the error is %v; want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("ghost-limit=4M,--link-remap")
	f.Add("tcp-close\n--exec-cmd")
	f.Fuzz(func(t *testing.T, list string) {
		words, err := ParseOptions(Dump, list)
		if err != nil {
			return
		}
		for _, word := range words { // each is a line of a file that CRIU reads
			again, err := ParseOptions(Dump, word)
			if diff := cmp.Diff([]string{word}, again); err != nil || diff != "" {
				t.Errorf("%q: %v (-want +got)\n%s", word, err, diff)
			}
		}
	})
}
