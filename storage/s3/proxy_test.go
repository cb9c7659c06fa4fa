package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

// fault is what a proxy does with a request instead of passing it on, or to it before; true says that it has answered.
type fault func(http.ResponseWriter, *http.Request) bool

// proxy stands between a store and a real server. It does nothing but for its fault, while there is one.
type proxy struct {
	url   string
	fault atomic.Pointer[fault]
}

func startProxy(t *testing.T, server *storagetest.MinIO) *proxy {
	t.Helper()
	target, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	p := &proxy{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := p.fault.Load(); f != nil && (*f)(w, r) {
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	p.url = front.URL
	return p
}

// answers has a proxy answer with an error as services write it, which the answer to HEAD has no room for.
func answers(status int, code, rest string, methods ...string) fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if len(methods) > 0 && !strings.Contains(strings.Join(methods, " "), r.Method) {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code>%s</Error>`, code, rest)
		}
		return true
	}
}

// late has requests arrive with a date of an hour ago; the server itself says what it thinks of that.
func late(_ http.ResponseWriter, r *http.Request) bool {
	r.Header.Set("X-Amz-Date", time.Now().UTC().Add(-time.Hour).Format("20060102T150405Z"))
	return false
}

var writes = []string{http.MethodPut, http.MethodPost}

func TestEveryFaultOfAServiceHasItsSentinel(t *testing.T) {
	t.Parallel()
	server := start(t)
	for name, test := range map[string]struct {
		fault fault
		want  error
		says  string
		// puts says that only what writes fails.
		puts bool
	}{
		"a region that is not the bucket's": {
			fault: answers(http.StatusBadRequest, "AuthorizationHeaderMalformed",
				"<Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region>",
				http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete),
			want: storage.ErrWrongRegion, says: `the bucket is in "eu-west-1"`,
		},
		"another region's endpoint": {
			fault: answers(http.StatusMovedPermanently, "PermanentRedirect",
				"<Message>The bucket you are attempting to access must be addressed using the specified endpoint.</Message>"),
			want: storage.ErrWrongRegion,
		},
		"a clock that is an hour late": {fault: late, want: storage.ErrClockSkew, says: "RequestTimeTooSkewed"},
		"a clock that is late, elsewhere": {
			fault: answers(http.StatusForbidden, "RequestTimeTooSkewed",
				"<Message>The difference between the request time and the current time is too large.</Message>",
				http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete),
			want: storage.ErrClockSkew,
		},
		"a missing bucket": {
			fault: answers(http.StatusNotFound, "NoSuchBucket", "<Message>The specified bucket does not exist</Message>",
				http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete),
			want: storage.ErrNoBucket,
		},
		"a right that is missing": {
			fault: answers(http.StatusForbidden, "AccessDenied", "<Message>Access Denied</Message>"), want: storage.ErrAccessDenied,
		},
		"the disks of MinIO are full": {
			fault: answers(http.StatusInsufficientStorage, "XMinioStorageFull",
				"<Message>Storage backend has reached its minimum free drive threshold.</Message>", writes...),
			want: storage.ErrNoSpace, puts: true,
		},
		"the quota of MinIO is used up": {
			fault: answers(http.StatusBadRequest, "XMinioAdminBucketQuotaExceeded", "<Message>Bucket quota exceeded</Message>", writes...),
			want:  storage.ErrNoSpace, puts: true,
		},
		"the quota of Ceph is used up": {fault: answers(http.StatusForbidden, "QuotaExceeded", "", writes...), want: storage.ErrNoSpace, puts: true},
		"a gateway's disk is full":     {fault: answers(http.StatusInsufficientStorage, "Full", "", writes...), want: storage.ErrNoSpace, puts: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, server)
			opts := optionsFor(server)
			opts.Endpoint, opts.Region, opts.Prefix = p.url, "us-east-1", strings.ReplaceAll(name, " ", "-")
			store := open(t, opts)
			if err := store.Put(t.Context(), "before", storage.Bytes([]byte("x")), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			p.fault.Store(&test.fault)
			for method, err := range faulty(t.Context(), store) {
				switch isPut := strings.HasPrefix(method, "Put"); {
				case test.puts && !isPut && err != nil:
					t.Errorf("%s: %v, though it writes nothing", method, err)
				case (isPut || !test.puts) && !errors.Is(err, test.want):
					t.Errorf("%s: have the error %v, want %v", method, err, test.want)
				case err != nil && !strings.Contains(err.Error(), test.says):
					t.Errorf("%s: %v does not say %s", method, err, test.says)
				case err != nil && storage.Advice(err) == "":
					t.Errorf("%s: nobody says what to do about %v", method, err)
				}
			}
			p.fault.Store(nil)
			if err := store.Put(t.Context(), "after", storage.Bytes([]byte("x")), storage.PutOptions{}); err != nil {
				t.Errorf("when all is well again: %v", err)
			}
		})
	}
}

// faulty returns what the methods say of whose answers a service fills the body.
func faulty(ctx context.Context, store *s3.Store) map[string]error {
	errs := map[string]error{
		"Put":       store.Put(ctx, "one", storage.Bytes([]byte("x")), storage.PutOptions{}),
		"Put parts": store.Put(ctx, "two", storage.Bytes(make([]byte, 12<<20)), storage.PutOptions{}),
		"Get":       get(ctx, store, "before"),
		"Check":     store.Check(ctx),
		"Delete":    store.Delete(ctx, "three"),
	}
	for _, err := range store.List(ctx, "", "") {
		if errs["List"] = err; err != nil {
			break
		}
	}
	return errs
}

// MinIO itself insists on a region only when it has one.
func TestMinIOSaysWhichRegionItIsIn(t *testing.T) {
	t.Parallel()
	server := start(t)
	server.Kill()
	server.Region = "eu-west-1"
	server.Start(t)
	opts := optionsFor(server)
	opts.Region = "us-east-1"
	err := open(t, opts).Check(t.Context())
	if !errors.Is(err, storage.ErrWrongRegion) || !strings.Contains(err.Error(), "eu-west-1") {
		t.Errorf("have the error %v", err)
	}
	opts.Region = server.Region
	if err := open(t, opts).Check(t.Context()); err != nil {
		t.Errorf("with its region: %v", err)
	}
}
