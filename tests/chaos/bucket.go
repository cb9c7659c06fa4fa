package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// mood is how a bucket behaves.
type mood string

const (
	honest     mood = ""
	throttling mood = "throttles" // every second request is to come again later
	full       mood = "is full"   // nothing more is stored
	forgetful  mood = "loses acknowledgements"
	lying      mood = "corrupts reads"
	slow       mood = "is slow"
	failing    mood = "fails" // with an error of its own
)

const (
	// slowness is how long a slow bucket thinks about each request.
	slowness = 1500 * time.Millisecond
	// lieAfter is how many bytes of a body are true.
	lieAfter = 100
	// bucketPort is where it is, in the network of the cluster.
	bucketPort = 9010
)

// bucket stands between the operator and the cluster's MinIO, and has moods.
type bucket struct {
	mood  atomic.Value
	count atomic.Int64 // of the requests that a mood has met
	proxy *httputil.ReverseProxy
}

// newBucket is a bucket in front of the one at an address.
func newBucket(address string) *bucket {
	b := &bucket{}
	b.mood.Store(honest)
	b.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host // which the signature of the request is of
		},
		ModifyResponse: func(answer *http.Response) error {
			if b.mood.Load() == lying && answer.Request.Method == http.MethodGet && answer.Request.URL.Query().Get("list-type") == "" {
				b.count.Add(1)
				answer.Body = &liar{ReadCloser: answer.Body}
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // MinIO is away
	}
	return b
}

// set gives the bucket a mood, and tells how many requests the one before has met.
func (b *bucket) set(m mood) int64 {
	b.mood.Store(m)
	return b.count.Swap(0)
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	writes := r.Method == http.MethodPut || r.Method == http.MethodPost
	switch m, _ := b.mood.Load().(mood); {
	case m == throttling && b.count.Add(1)%2 == 0:
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
	case m == failing:
		b.count.Add(1)
		refuse(w, http.StatusInternalServerError, "InternalError")
	case m == full && writes:
		b.count.Add(1)
		refuse(w, http.StatusInsufficientStorage, "XMinioStorageFull")
	case m == forgetful && writes:
		b.count.Add(1)
		b.proxy.ServeHTTP(nowhere{http.Header{}}, r)
		panic(http.ErrAbortHandler) // it was done, and the connection ends without a word
	case m == slow:
		b.count.Add(1)
		_ = pause(r.Context(), slowness)
		b.proxy.ServeHTTP(w, r)
	default:
		b.proxy.ServeHTTP(w, r)
	}
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>the bucket is in this mood</Message></Error>", code)
}

// nowhere takes an answer that nobody gets.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header          { return n.header }
func (nowhere) Write(data []byte) (int, error) { return len(data), nil }
func (nowhere) WriteHeader(int)                {}

// liar is a body of which one bit is not what was stored.
type liar struct {
	io.ReadCloser
	read int
}

func (l *liar) Read(into []byte) (int, error) {
	n, err := l.ReadCloser.Read(into)
	if at := lieAfter - l.read; at >= 0 && at < n {
		into[at] ^= 1
	}
	l.read += n
	return n, err
}

// standBetween has the operator's location lead to a bucket with moods, which is there until the context ends.
func standBetween(ctx context.Context, operator *install.Operator) (*bucket, error) {
	status, err := operator.Cluster.ReadStatus(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := operator.Cluster.Listen(net.JoinHostPort(spec.PlaneIP, strconv.Itoa(bucketPort)))
	if err != nil {
		return nil, err
	}
	b := newBucket(status.S3.Endpoint)
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	go func() { _ = server.Serve(listener) }()
	return b, lead(ctx, operator, listener.Addr().String())
}

// lead has the operator's location lead to an address.
func lead(ctx context.Context, operator *install.Operator, address string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"endpoint": "http://" + address}})
	if err != nil {
		return err
	}
	locations := operator.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations()
	_, err = locations.Patch(ctx, install.Location, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// moody is a bucket that is in a mood.
func moody(m mood) fault {
	return fault{
		name: "bucket " + string(m), lasts: true,
		begin: func(_ context.Context, r *run, _ string) error { r.bucket.set(m); return nil },
		end: func(_ context.Context, r *run, _ string) error {
			if r.bucket.set(honest) == 0 {
				r.missed()
			}
			return nil
		},
	}
}
