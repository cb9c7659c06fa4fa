package s3

import (
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/transparent-checkpoint/operator/storage"
)

// ServerSideMethod is a way in which a server encrypts objects.
type ServerSideMethod string

// The methods.
const (
	// ServerSideS3: with keys of the server, SSE-S3.
	ServerSideS3 ServerSideMethod = "S3"
	// ServerSideKMS: with a key of the server's key management, SSE-KMS.
	ServerSideKMS ServerSideMethod = "KMS"
	// ServerSideCustomer: with a key that goes along with each request and that the server does not keep, SSE-C. It needs HTTPS.
	ServerSideCustomer ServerSideMethod = "Customer"
)

// customerKeySize is that of the key of SSE-C, in bytes.
const customerKeySize = 32

// ServerSide is how a server is asked to encrypt what it stores. The zero value asks for nothing: then it does what the bucket says. What was put by
// SSE-C can be read only with the same key, and without that method nothing else than what was put without it. It does not print its key.
type ServerSide struct {
	Method ServerSideMethod
	// KMSKeyID is the key of the server's key management, for ServerSideKMS. Empty is the server's default.
	KMSKeyID string
	// CustomerKey has 32 bytes, for ServerSideCustomer.
	CustomerKey []byte
}

// String hides the key.
func (e ServerSide) String() string {
	return fmt.Sprintf("{Method:%s, KMSKeyID:%s, key hidden}", e.Method, e.KMSKeyID)
}

// GoString hides the key.
func (e ServerSide) GoString() string { return e.String() }

func (e ServerSide) check(endpoint string) error {
	if e.KMSKeyID != "" && e.Method != ServerSideKMS {
		return fmt.Errorf("KMS key ID of the server-side encryption %q is %q; only %q may have one: %w", e.Method, e.KMSKeyID, ServerSideKMS, storage.ErrInvalid)
	}
	if len(e.CustomerKey) > 0 && e.Method != ServerSideCustomer {
		return fmt.Errorf("server-side encryption %q has a customer key; only %q may have one: %w", e.Method, ServerSideCustomer, storage.ErrInvalid)
	}
	switch e.Method {
	case "", ServerSideS3, ServerSideKMS:
		return nil
	case ServerSideCustomer:
	default:
		return fmt.Errorf("server-side encryption is %q; it may be %q, %q or %q: %w",
			e.Method, ServerSideS3, ServerSideKMS, ServerSideCustomer, storage.ErrInvalid)
	}
	if len(e.CustomerKey) != customerKeySize {
		return fmt.Errorf("customer key has %d bytes; it may have %d: %w", len(e.CustomerKey), customerKeySize, storage.ErrInvalid)
	}
	if !strings.HasPrefix(endpoint, "https://") {
		return fmt.Errorf("endpoint is %q; with a customer key, which is sent to it, it may be https:// alone: %w", endpoint, storage.ErrInvalid)
	}
	return nil
}

// encryption returns what the SDK wants to know; nil is none.
func (e ServerSide) encryption() (encrypt.ServerSide, error) {
	switch e.Method {
	case ServerSideS3:
		return encrypt.NewSSE(), nil
	case ServerSideKMS:
		return encrypt.NewSSEKMS(e.KMSKeyID, nil)
	case ServerSideCustomer:
		return encrypt.NewSSEC(e.CustomerKey)
	}
	return nil, nil
}
