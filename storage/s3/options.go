package s3

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/transparent-checkpoint/operator/storage"
)

// The defaults of Options.
const (
	DefaultPartSize = 16 << 20 // bytes
	DefaultBuffers  = 8
)

// maxPrefixLength is what S3's 1024 bytes of a key leave beside storage.MaxKeyLength and a slash.
const maxPrefixLength = 255

// Options say which bucket, and how to talk to its server.
type Options struct {
	// Endpoint is the URL of the server: https://host, http://host:port. Required.
	Endpoint string
	// Bucket is the name of the bucket, which has to be there. Required.
	Bucket string
	// Region of the bucket. Empty: as the endpoint's name says, or as the server says when it is asked.
	Region string
	// Prefix is set before every key, with a slash between. It is a key of at most 255 bytes; empty means none.
	Prefix string
	// PathStyle puts the bucket into the path of the URL, which MinIO and most servers on site want. HostStyle makes it part of the host name.
	// Without either it is part of the host name for the endpoints of Amazon, Google and Aliyun, and part of the path for all others.
	PathStyle, HostStyle bool
	// CA is the certificates in PEM that may sign that of the server, instead of the system's.
	CA []byte
	// Credentials are required.
	Credentials Credentials
	// ServerSide is how the server is asked to encrypt.
	ServerSide ServerSide

	// PartSize is the size in bytes of the parts in which large and endless bodies are sent; storage.MinPartSize or more. Bodies for which 10000
	// parts of it are too few are sent in larger ones; a body of unknown size without a maximum ends there. Zero means DefaultPartSize.
	PartSize int64
	// Buffers is how many parts the Store holds in memory and sends at once, for all puts together: PartSize × Buffers bounds its memory. A put
	// that finds none waits. Zero means DefaultBuffers.
	Buffers int
}

// Credentials are those of one access key. They do not print.
type Credentials struct {
	AccessKey    string
	SecretKey    string
	SessionToken string // for temporary credentials
}

// String hides the secrets.
func (c Credentials) String() string {
	return fmt.Sprintf("{AccessKey:%s, secrets hidden}", c.AccessKey)
}

// GoString hides the secrets.
func (c Credentials) GoString() string { return c.String() }

// Check returns storage.ErrInvalid with the field, what it has and what it may be.
func (o Options) Check() error {
	if _, err := o.endpoint(); err != nil {
		return err
	}
	if err := s3utils.CheckValidBucketNameStrict(o.Bucket); err != nil {
		return fmt.Errorf("bucket is %q; it may be 3 to 63 lower-case letters, digits, \".\" and \"-\": %w: %w", o.Bucket, storage.ErrInvalid, err)
	}
	if len(o.Prefix) > maxPrefixLength {
		return fmt.Errorf("prefix has %d bytes; it may have %d: %w", len(o.Prefix), maxPrefixLength, storage.ErrInvalid)
	}
	if o.Prefix != "" {
		if err := storage.CheckKey("prefix", o.Prefix); err != nil {
			return err
		}
	}
	if o.PathStyle && o.HostStyle {
		return fmt.Errorf("path style and host style are both set; one may be: %w", storage.ErrInvalid)
	}
	if o.Credentials.AccessKey == "" || o.Credentials.SecretKey == "" {
		return fmt.Errorf("access key or secret key is empty; both may be those that the server knows: %w", storage.ErrInvalid)
	}
	if err := o.ServerSide.check(o.Endpoint); err != nil {
		return err
	}
	if o.PartSize != 0 && (o.PartSize < storage.MinPartSize || o.PartSize > storage.MaxPartSize) {
		return fmt.Errorf("part size is %d bytes; it may be %d to %d: %w", o.PartSize, storage.MinPartSize, int64(storage.MaxPartSize), storage.ErrInvalid)
	}
	if o.Buffers < 0 {
		return fmt.Errorf("number of buffers is %d; it may be 1 or more, or 0 for %d: %w", o.Buffers, DefaultBuffers, storage.ErrInvalid)
	}
	return nil
}

func (o Options) endpoint() (*url.URL, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		// Its text would repeat the endpoint, which may hold a password.
		return nil, fmt.Errorf("endpoint is not a URL; it may be http:// or https:// with a host and a port: %w", storage.ErrInvalid)
	}
	if u.User != nil {
		return nil, fmt.Errorf("endpoint has a user; credentials may only stand in the field for them: %w", storage.ErrInvalid)
	}
	isPlain := strings.TrimSuffix(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || !isPlain {
		return nil, fmt.Errorf("endpoint is %q; it may be http:// or https:// with a host and a port: %w", o.Endpoint, storage.ErrInvalid)
	}
	return u, nil
}

// client makes the SDK's client.
func (o Options) client() (*minio.Core, error) {
	endpoint, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupAuto
	switch {
	case o.PathStyle:
		lookup = minio.BucketLookupPath
	case o.HostStyle:
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(o.Credentials.AccessKey, o.Credentials.SecretKey, o.Credentials.SessionToken),
		Secure:       endpoint.Scheme == "https",
		Transport:    transport,
		Region:       o.Region,
		BucketLookup: lookup,
		// A large put is thousands of requests. A hiccup of one of them is not worth a second put; patience is the job of storage/retry.
		MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint is %q: %w: %w", o.Endpoint, storage.ErrInvalid, err)
	}
	return client, nil
}

func (o Options) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, fmt.Errorf("CA has %d bytes without a certificate; it may be certificates in PEM: %w", len(o.CA), storage.ErrInvalid)
		}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute, // completing an upload of thousands of parts takes a while
		ExpectContinueTimeout: 10 * time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   64,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true, // bytes come as they were put
	}, nil
}
