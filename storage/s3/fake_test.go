package s3_test

import (
	"cmp"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/s3"
)

// These tests need a server that behaves as MinIO does not.

// answer writes an error as S3 does.
func answer(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>message</Message></Error>")
}

func serve(t *testing.T, handler http.HandlerFunc) s3.Options {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return s3.Options{
		Endpoint: server.URL, Bucket: bucket, Region: "us-east-1", PathStyle: true, Credentials: s3.Credentials{AccessKey: "key", SecretKey: "secret"},
	}
}

func TestCodesOfServers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		code   string
		want   error
	}{
		"an object that is there":      {status: http.StatusPreconditionFailed, code: "PreconditionFailed", want: storage.ErrExist},
		"another put at the same time": {status: http.StatusConflict, code: "ConditionalRequestConflict", want: storage.ErrUnavailable},
		"a missing bucket":             {status: http.StatusNotFound, code: "NoSuchBucket", want: storage.ErrNoBucket},
		"a code that nobody knows":     {status: http.StatusForbidden, code: "Forbidden2", want: storage.ErrAccessDenied},
		"a clock that is wrong":        {status: http.StatusForbidden, code: "RequestTimeTooSkewed", want: storage.ErrClockSkew},
		"another region's endpoint":    {status: http.StatusMovedPermanently, code: "PermanentRedirect", want: storage.ErrWrongRegion},
		"a header that is malformed":   {status: http.StatusBadRequest, code: "AuthorizationHeaderMalformed", want: storage.ErrInvalid},
		"a full disk":                  {status: http.StatusInsufficientStorage, code: "XMinioStorageFull", want: storage.ErrNoSpace},
		"a full disk elsewhere":        {status: http.StatusInsufficientStorage, code: "Full", want: storage.ErrNoSpace},
		"too many requests":            {status: http.StatusTooManyRequests, code: "TooMany", want: storage.ErrUnavailable},
		"a server that is starting":    {status: http.StatusServiceUnavailable, code: "XMinioServerNotInitialized", want: storage.ErrUnavailable},
		"a gateway without a server":   {status: http.StatusBadGateway, code: "Bad", want: storage.ErrUnavailable},
		"a damaged body":               {status: http.StatusBadRequest, code: "XAmzContentSHA256Mismatch", want: storage.ErrUnavailable},
		"a wrong request":              {status: http.StatusBadRequest, code: "Other", want: storage.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, test.status, test.code) }))
			err := store.Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{})
			if !errors.Is(err, test.want) {
				t.Errorf("have the error %v, want %v", err, test.want)
			}
		})
	}
}

func TestAServerWithoutConditions(t *testing.T) {
	t.Parallel()
	var puts, refused atomic.Int32
	opts := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.Method == http.MethodHead && puts.Load() == 0:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodHead:
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			w.Header().Set("Etag", `"x"`)
		case r.Header.Get("If-None-Match") != "":
			refused.Add(1)
			answer(w, http.StatusNotImplemented, "NotImplemented")
		default:
			puts.Add(1)
		}
	})
	store := open(t, opts)
	put := func() error {
		return store.Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{IfAbsent: true})
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if err := put(); !errors.Is(err, storage.ErrExist) {
		t.Errorf("have the error %v, want %v", err, storage.ErrExist)
	}
	puts.Store(0)
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]int32{1, 1}, []int32{puts.Load(), refused.Load()}); diff != "" {
		t.Errorf("puts that went through, and puts with a condition (-want +got):\n%s", diff)
	}
}

// TestChecksums puts twice. Only a server that says that it has compared the checksum is spared the signature of the content.
func TestChecksums(t *testing.T) {
	t.Parallel()
	const header, signed = "X-Amz-Checksum-Crc32c", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   []string // how the contents of the requests are vouched for
	}{
		"a server that compares":   {func(w http.ResponseWriter, r *http.Request) { w.Header().Set(header, r.Header.Get(header)) }, []string{"Ya91Mw==", "Ya91Mw=="}},
		"one that takes no notice": {func(http.ResponseWriter, *http.Request) {}, []string{"Ya91Mw==", signed, signed}},
		"one that wants none": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(header) != "" {
				answer(w, http.StatusBadRequest, "InvalidArgument")
			}
		}, []string{"Ya91Mw==", signed, signed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var have []string
			store := open(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				mu.Lock()
				have = append(have, cmp.Or(r.Header.Get(header), r.Header.Get("X-Amz-Content-Sha256")))
				mu.Unlock()
				test.answer(w, r)
			}))
			for range 2 {
				if err := store.Put(t.Context(), "key", storage.Bytes([]byte("content")), storage.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if diff := gocmp.Diff(test.want, have); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAServerThatIgnoresRanges(t *testing.T) {
	t.Parallel()
	store := open(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = io.WriteString(w, "0123456789")
	}))
	if _, err := store.Get(t.Context(), "key", storage.Range{Offset: 3, Length: 2}); err == nil {
		t.Error("the whole object is taken for a range of it")
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	opts := s3.Options{
		Endpoint: server.URL, Bucket: bucket, Region: "us-east-1", PathStyle: true, Credentials: s3.Credentials{AccessKey: "key", SecretKey: "secret"},
	}
	put := func() error {
		return open(t, opts).Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{})
	}
	if err := put(); err == nil || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a certificate that nobody trusts: have the error %v, want a permanent one", err)
	}
	opts.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := put(); err != nil {
		t.Errorf("a certificate that the options trust: %v", err)
	}
}

func TestHTTPSToAServerWithout(t *testing.T) {
	t.Parallel()
	opts := serve(t, func(http.ResponseWriter, *http.Request) {})
	opts.Endpoint = "https" + opts.Endpoint[len("http"):]
	err := open(t, opts).Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{})
	if err == nil || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("have the error %v, want a permanent one", err)
	}
}

// TestWhatFitsIntoAPartTakesNoBuffer: it is put while all buffers are taken.
func TestWhatFitsIntoAPartTakesNoBuffer(t *testing.T) {
	t.Parallel()
	opts := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"1"`)
	})
	opts.Buffers, opts.PartSize = 1, storage.MinPartSize
	store := open(t, opts)
	endless, more := io.Pipe()
	done := make(chan error)
	go func() { done <- store.Put(t.Context(), "endless", storage.Once(endless, -1), storage.PutOptions{}) }()
	if _, err := more.Write([]byte("it waits for more, with a buffer")); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "part", storage.Bytes(make([]byte, opts.PartSize)), storage.PutOptions{}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(more.Close(), <-done); err != nil {
		t.Error(err)
	}
}
