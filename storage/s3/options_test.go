package s3_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/s3"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]optionsTest{
		"what is needed suffices":               {change: func(*s3.Options) {}},
		"a slash after the endpoint is nothing": {change: func(o *s3.Options) { o.Endpoint += "/" }},
		"an endpoint is needed": {
			change: func(o *s3.Options) { o.Endpoint = "" },
			want:   `endpoint is ""; it may be http:// or https:// with a host and a port: invalid`,
		},
		"an endpoint without a scheme is refused": {
			change: func(o *s3.Options) { o.Endpoint = "minio:9000" },
			want:   `endpoint is "minio:9000"; it may be http:// or https:// with a host and a port: invalid`,
		},
		"an endpoint with a path is refused": {
			change: func(o *s3.Options) { o.Endpoint = "http://minio:9000/bucket" },
			want:   `endpoint is "http://minio:9000/bucket"; it may be http:// or https:// with a host and a port: invalid`,
		},
		"a password in the endpoint is refused and not repeated": {
			change: func(o *s3.Options) { o.Endpoint = "http://user:password@minio" },
			want:   `endpoint has a user; credentials may only stand in the field for them: invalid`,
		},
		"an endpoint that is no URL is not repeated": {
			change: func(o *s3.Options) { o.Endpoint = "http://user:pass%word@minio" },
			want:   `endpoint is not a URL; it may be http:// or https:// with a host and a port: invalid`,
		},
		"a bucket has lower-case letters": {
			change: func(o *s3.Options) { o.Bucket = "Bucket" },
			want: `bucket is "Bucket"; it may be 3 to 63 lower-case letters, digits, "." and "-": invalid: ` +
				`Bucket name contains invalid characters`,
		},
		"a prefix is a key": {
			change: func(o *s3.Options) { o.Prefix = "../other" },
			want:   `prefix is "../other"; it may not have the element "..": invalid`,
		},
		"a prefix is bounded": {
			change: func(o *s3.Options) { o.Prefix = strings.Repeat("a/", 130) },
			want:   `prefix has 260 bytes; it may have 255: invalid`,
		},
		"one style": {change: func(o *s3.Options) { o.PathStyle, o.HostStyle = true, true }, want: "path style and host style are both set; one may be: invalid"},
		"credentials are needed": {
			change: func(o *s3.Options) { o.Credentials.SecretKey = "" },
			want:   `access key or secret key is empty; both may be those that the server knows: invalid`,
		},
		"a certificate authority is in PEM": {
			change: func(o *s3.Options) { o.CA = []byte("not PEM") },
			want:   `CA has 7 bytes without a certificate; it may be certificates in PEM: invalid`,
		},
		"a part is not too small": {
			change: func(o *s3.Options) { o.PartSize = 1 },
			want:   `part size is 1 bytes; it may be 5242880 to 5368709120: invalid`,
		},
		"there are buffers": {
			change: func(o *s3.Options) { o.Buffers = -1 },
			want:   `number of buffers is -1; it may be 1 or more, or 0 for 8: invalid`,
		},
	}
	testOptions(t, tests)
}

// optionsTest is a change of options that do, and what is said of it after the beginning of all such messages; nothing if they still do.
type optionsTest struct {
	change func(*s3.Options)
	want   string
}

func testOptions(t *testing.T, tests map[string]optionsTest) {
	t.Helper()
	const before = "options of the S3 store: "
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := s3.Options{Endpoint: "https://minio:9000", Bucket: "bucket", Credentials: s3.Credentials{AccessKey: "key", SecretKey: "secret"}}
			test.change(&opts)
			got, want := "", test.want
			if _, err := s3.New(opts); err != nil {
				got = err.Error()
				if !errors.Is(err, storage.ErrInvalid) {
					t.Errorf("%v is not ErrInvalid", err)
				}
			}
			if want != "" {
				want = before + want
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	t.Parallel()
	opts := s3.Options{Credentials: s3.Credentials{AccessKey: "key", SecretKey: "hidden-1", SessionToken: "hidden-2"}}
	opts.ServerSide.CustomerKey = []byte("hidden-3")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, opts); strings.Contains(text, "hidden-") || strings.Contains(text, fmt.Sprintf(verb, opts.ServerSide.CustomerKey)) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
