package v1alpha1

import (
	"strings"
	"testing"
	"time"
)

func TestReadableSize(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes int64
		want  string
	}{
		"nothing is nothing":                         {0, "0"},
		"less than ten kibibytes are told in bytes":  {9999, "9999"},
		"what is over is rounded up":                 {64<<20 + 1, "65Mi"},
		"whole units stay as they are":               {256 << 20, "256Mi"},
		"two gibibytes and something keep their MiB": {2469606195, "2356Mi"},
		"a whole gibibyte is shown as one":           {2 << 30, "2Gi"},
		"from ten on the next unit is used":          {10<<30 + 1, "11Gi"},
		"the largest number has a unit, too":         {1 << 62, "4Ei"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ReadableSize(tc.bytes).String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestReadableDuration(t *testing.T) {
	for name, tc := range map[string]struct {
		d    time.Duration
		want string
	}{
		"less than a second is told in milliseconds": {412345678, "412ms"},
		"some seconds keep their milliseconds":       {1453200 * time.Microsecond, "1.453s"},
		"from ten seconds on to ten milliseconds":    {13374 * time.Millisecond, "13.37s"},
		"minutes to a second":                        {2*time.Minute + 3600*time.Millisecond, "2m4s"},
		"nothing is nothing":                         {0, "0s"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ReadableDuration(tc.d).Duration.String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestEventNote(t *testing.T) {
	for name, tc := range map[string]struct{ message, want string }{
		"a short message is kept":               {"not captured: no", "not captured: no"},
		"so are its lines":                      {"one\ntwo", "one\ntwo"},
		"a long one is cut":                     {strings.Repeat("x", 1025), strings.Repeat("x", 1020) + " …"},
		"the longest that there may be is kept": {strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		"no letter is cut through":              {strings.Repeat("é", 600), strings.Repeat("é", 510) + " …"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := EventNote(tc.message); got != tc.want {
				t.Errorf("got %d bytes %q, want %d bytes", len(got), got, len(tc.want))
			}
		})
	}
}

func TestLogTail(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	for name, tc := range map[string]struct{ log, want string }{
		"a short log is kept whole":               {"one\ntwo\n", "one\ntwo"},
		"of a long log whole lines are kept":      {strings.Repeat(line, 50) + "Error (end)\n", strings.Repeat(line, 40) + "Error (end)"},
		"a long line is cut":                      {strings.Repeat("x", 5000), strings.Repeat("x", MaxLogTail)},
		"a cut through a letter leaves no rubble": {strings.Repeat("é", 3000) + "x", strings.Repeat("é", 2047) + "x"},
		"what is not text is left out":            {"a\xff\xfeb", "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := LogTail(tc.log); got != tc.want {
				t.Errorf("got %d bytes %q, want %d bytes %q", len(got), got, len(tc.want), tc.want)
			}
		})
	}
}
