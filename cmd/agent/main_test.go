package main

import "testing"

func TestLimits(t *testing.T) {
	t.Parallel()
	const quantity = `; it may be a quantity of bytes a second, as 100Mi, from 64Ki on, or 0 for no limit`
	for name, test := range map[string]struct {
		uploads          int
		upload, download string
		want             string
	}{
		"the defaults":              {2, "0", "0", ""},
		"limits":                    {64, "100Mi", "1.5G", ""},
		"the lowest":                {1, "64Ki", "65536", ""},
		"no upload at all":          {0, "0", "0", "--uploads-at-once is 0; it may be 1 to 64"},
		"too many":                  {65, "0", "0", "--uploads-at-once is 65; it may be 1 to 64"},
		"no quantity":               {2, "100Mbit", "0", `--upload-bandwidth is "100Mbit"` + quantity},
		"nothing":                   {2, "", "0", `--upload-bandwidth is ""` + quantity},
		"less than goes":            {2, "0", "1000", `--download-bandwidth is "1000"` + quantity},
		"less than nothing":         {2, "0", "-1", `--download-bandwidth is "-1"` + quantity},
		"a part of a byte a second": {2, "100m", "0", `--upload-bandwidth is "100m"` + quantity},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := options{uploadsAtOnce: test.uploads, uploadBandwidth: test.upload, downloadBandwidth: test.download}.limits()
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("have the error %q, want %q", got, test.want)
			}
		})
	}
}
