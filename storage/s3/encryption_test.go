package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

// customer is server-side encryption with a key of 32 times the same byte.
func customer(key byte) s3.ServerSide {
	return s3.ServerSide{Method: s3.ServerSideCustomer, CustomerKey: bytes.Repeat([]byte{key}, 32)}
}

func TestOptionsOfEncryption(t *testing.T) {
	t.Parallel()
	testOptions(t, map[string]optionsTest{
		"none":        {change: func(o *s3.Options) { o.ServerSide = s3.ServerSide{} }},
		"our own key": {change: func(o *s3.Options) { o.ServerSide = customer(1) }},
		"a way of encryption is one that there is": {
			change: func(o *s3.Options) { o.ServerSide.Method = "AES" },
			want:   `server-side encryption is "AES"; it may be "S3", "KMS" or "Customer": invalid`,
		},
		"a key of a KMS is for a KMS": {
			change: func(o *s3.Options) { o.ServerSide = s3.ServerSide{Method: s3.ServerSideS3, KMSKeyID: "key"} },
			want:   `KMS key ID of the server-side encryption "S3" is "key"; only "KMS" may have one: invalid`,
		},
		"a customer key is for that method": {
			change: func(o *s3.Options) { o.ServerSide.CustomerKey = make([]byte, 32) },
			want:   `server-side encryption "" has a customer key; only "Customer" may have one: invalid`,
		},
		"a customer key has 32 bytes": {
			change: func(o *s3.Options) {
				o.ServerSide = s3.ServerSide{Method: s3.ServerSideCustomer, CustomerKey: make([]byte, 16)}
			},
			want: `customer key has 16 bytes; it may have 32: invalid`,
		},
		"a customer key is not sent in the clear": {
			change: func(o *s3.Options) { o.Endpoint, o.ServerSide = "http://minio:9000", customer(1) },
			want:   `endpoint is "http://minio:9000"; with a customer key, which is sent to it, it may be https:// alone: invalid`,
		},
	})
}

// startEncrypting starts a server with HTTPS that can encrypt by itself.
func startEncrypting(t *testing.T) (*storagetest.MinIO, s3.Options) {
	t.Helper()
	server := storagetest.StartMinIO(t, storagetest.WithHTTPS, storagetest.WithKMS)
	server.MakeBucket(t, bucket)
	opts := optionsFor(server)
	opts.CA = server.CA
	return server, opts
}

func TestConformanceWithServerSideEncryption(t *testing.T) {
	t.Parallel()
	server, opts := startEncrypting(t)
	for name, encryption := range map[string]s3.ServerSide{
		"a key of the server": {Method: s3.ServerSideKMS, KMSKeyID: server.KMSKey},
		"our own key":         customer(1),
	} {
		t.Run(name, func(t *testing.T) {
			number := 0
			storagetest.Run(t, func(t *testing.T) storage.Store {
				opts := opts
				number++
				opts.Prefix, opts.ServerSide = fmt.Sprintf("%s/%d", name, number), encryption
				return open(t, opts)
			})
		})
	}
}

// TestWhatTheServerEncrypts asks the server what it has made of objects that were put in one request, with a checksum, and in parts.
func TestWhatTheServerEncrypts(t *testing.T) {
	t.Parallel()
	server, opts := startEncrypting(t)
	transport, err := minio.DefaultTransport(true)
	if err != nil {
		t.Fatal(err)
	}
	transport.TLSClientConfig.RootCAs = server.Authorities()
	raw, err := minio.New(server.Address, &minio.Options{
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Secure: true, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		encryption s3.ServerSide
		want       string
	}{
		"none":               {s3.ServerSide{}, ""},
		"keys of the server": {s3.ServerSide{Method: s3.ServerSideS3}, "AES256"},
		"its default key":    {s3.ServerSide{Method: s3.ServerSideKMS}, "aws:kms"},
		"a key with a name":  {s3.ServerSide{Method: s3.ServerSideKMS, KMSKeyID: server.KMSKey}, "aws:kms"},
		"our own key":        {customer(1), "refused"},
	} {
		opts := opts
		opts.ServerSide, opts.Prefix = test.encryption, name
		store := open(t, opts)
		for key, body := range map[string]storage.Body{
			"whole": storage.Bytes([]byte("x")), "streamed": storage.Once(strings.NewReader("x"), 1), "in parts": storage.Bytes(make([]byte, 11<<20)),
		} {
			if err := store.Put(t.Context(), key, body, storage.PutOptions{}); err != nil {
				t.Fatalf("%s, %s: %v", name, key, err)
			}
			got := "refused"
			if info, err := raw.StatObject(t.Context(), bucket, name+"/"+key, minio.StatObjectOptions{}); err == nil {
				got = info.Metadata.Get("X-Amz-Server-Side-Encryption")
			}
			if got != test.want {
				t.Errorf("%s, %s: it is encrypted by %q, want %q", name, key, got, test.want)
			}
		}
	}
}

func TestAServerThatDoesNotEncryptSaysSo(t *testing.T) {
	t.Parallel()
	plain := start(t)
	_, opts := startEncrypting(t)
	for name, test := range map[string]struct {
		opts       s3.Options
		encryption s3.ServerSide
	}{
		"no keys of the server": {optionsFor(plain), s3.ServerSide{Method: s3.ServerSideS3}},
		"no key management":     {optionsFor(plain), s3.ServerSide{Method: s3.ServerSideKMS}},
		"no key of that name":   {opts, s3.ServerSide{Method: s3.ServerSideKMS, KMSKeyID: "other"}},
	} {
		test.opts.ServerSide = test.encryption
		store := open(t, test.opts)
		big := storage.Once(bytes.NewReader(make([]byte, 11<<20)), storage.SizeUnknown)
		for _, err := range []error{
			store.Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{}),
			store.Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{IfAbsent: true}),
			store.Put(t.Context(), "key", big, storage.PutOptions{}),
		} {
			if !errors.Is(err, storage.ErrEncryption) {
				t.Errorf("%s: have the error %v, want %v", name, err, storage.ErrEncryption)
			}
		}
	}
}

func TestOurOwnKeyIsNeededForReading(t *testing.T) {
	t.Parallel()
	_, opts := startEncrypting(t)
	opts.ServerSide = customer(1)
	if err := open(t, opts).Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		encryption s3.ServerSide
		want       error
	}{
		"another key": {customer(2), storage.ErrAccessDenied},
		"none":        {s3.ServerSide{}, storage.ErrEncryption},
		"the same":    {customer(1), nil},
	} {
		opts.ServerSide = test.encryption
		body, err := open(t, opts).Get(t.Context(), "key", storage.Range{})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: have the error %v, want %v", name, err, test.want)
		}
		if err != nil {
			continue
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != "x" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}
