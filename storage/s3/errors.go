package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/transparent-checkpoint/operator/storage"
)

// codes is what the error codes of S3 mean to the port
// (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and the codes of MinIO).
var codes = map[string]error{
	minio.NoSuchKey:                      storage.ErrNotExist,
	minio.NoSuchUpload:                   storage.ErrNotExist,
	minio.NoSuchVersion:                  storage.ErrNotExist,
	minio.NoSuchBucket:                   storage.ErrNoBucket,
	minio.PreconditionFailed:             storage.ErrExist, // If-None-Match is the only condition that is ever sent
	minio.AccessDenied:                   storage.ErrAccessDenied,
	minio.AllAccessDisabled:              storage.ErrAccessDenied,
	minio.InvalidAccessKeyID:             storage.ErrAccessDenied,
	minio.SignatureDoesNotMatch:          storage.ErrAccessDenied,
	minio.RequestTimeTooSkewed:           storage.ErrClockSkew,
	"ExpiredToken":                       storage.ErrAccessDenied,
	"InvalidToken":                       storage.ErrAccessDenied,
	minio.InvalidRegion:                  storage.ErrWrongRegion,
	"IllegalLocationConstraintException": storage.ErrWrongRegion,
	"PermanentRedirect":                  storage.ErrWrongRegion, // the endpoint is another region's
	"TemporaryRedirect":                  storage.ErrUnavailable, // of a bucket that is new
	"QuotaExceeded":                      storage.ErrNoSpace,
	"XMinioAdminBucketQuotaExceeded":     storage.ErrNoSpace,
	"XMinioStorageFull":                  storage.ErrNoSpace,
	"InvalidObjectName":                  storage.ErrInvalid,
	"XMinioParentIsObject":               storage.ErrInvalid, // one key is the folder of another
	"XMinioObjectExistsAsDirectory":      storage.ErrInvalid,
	"ConditionalRequestConflict":         storage.ErrUnavailable, // another put of the key goes on
	"OperationAborted":                   storage.ErrUnavailable,
	"SlowDown":                           storage.ErrUnavailable,
	"SlowDownRead":                       storage.ErrUnavailable,
	"SlowDownWrite":                      storage.ErrUnavailable,
	"Throttling":                         storage.ErrUnavailable,
	"ThrottlingException":                storage.ErrUnavailable,
	"RequestLimitExceeded":               storage.ErrUnavailable,
	"RequestTimeout":                     storage.ErrUnavailable,
	minio.InternalError:                  storage.ErrUnavailable,
	"XMinioServerNotInitialized":         storage.ErrUnavailable,
	minio.BadDigest:                      storage.ErrUnavailable, // damaged on its way
	minio.IncompleteBody:                 storage.ErrUnavailable,
	minio.XAmzContentSHA256Mismatch:      storage.ErrUnavailable,
	"XAmzContentChecksumMismatch":        storage.ErrUnavailable,
	minio.NotImplemented:                 errNotImplemented,
	minio.XMinioInvalidObjectName:        storage.ErrInvalid,
	minio.AuthorizationHeaderMalformed:   storage.ErrInvalid, // unless it speaks of the region
}

// errNotImplemented: the server does not know a header or an operation. It stays inside: Put does without If-None-Match then.
var errNotImplemented = errors.New("the server cannot do that")

// translate gives an error of the SDK the port's meaning. An error that fits none, such as an untrusted certificate, stays as it is and
// thereby permanent.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// The SDK's own time-outs also call themselves DeadlineExceeded; only the caller's context tells.
	if ended := ctx.Err(); ended != nil {
		if errors.Is(err, ended) {
			return err
		}
		return fmt.Errorf("%w: %w", ended, err)
	}
	var response minio.ErrorResponse
	if errors.As(err, &response) {
		return translateResponse(response)
	}
	if isTemporary(err) {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}

func translateResponse(response minio.ErrorResponse) error {
	sentinel, known := codes[response.Code]
	switch {
	case isAboutEncryption(response):
		sentinel = storage.ErrEncryption
	case response.Code == minio.AuthorizationHeaderMalformed && (response.Region != "" || strings.Contains(response.Message, "region")):
		sentinel = storage.ErrWrongRegion
	case known:
	case response.StatusCode == http.StatusMovedPermanently, response.StatusCode == http.StatusPermanentRedirect: // of HEAD, which has no body
		sentinel = storage.ErrWrongRegion
	case response.StatusCode == http.StatusNotImplemented:
		sentinel = errNotImplemented
	case response.StatusCode == http.StatusInsufficientStorage:
		sentinel = storage.ErrNoSpace
	case response.StatusCode >= 500, response.StatusCode == http.StatusTooManyRequests, response.StatusCode == http.StatusRequestTimeout:
		sentinel = storage.ErrUnavailable
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		sentinel = storage.ErrAccessDenied
	case response.StatusCode >= 400:
		sentinel = storage.ErrInvalid
	default:
		return response
	}
	if response.Region != "" && errors.Is(sentinel, storage.ErrWrongRegion) {
		return fmt.Errorf("%w: the bucket is in %q: %s: %w", sentinel, response.Region, response.Code, response)
	}
	return fmt.Errorf("%w: %s: %w", sentinel, response.Code, response)
}

// isAboutEncryption tells whether a server refuses a way of encryption. There is no code for that: MinIO without a KMS says NotImplemented, others say that
// an argument is invalid, all with a message that speaks of it.
func isAboutEncryption(response minio.ErrorResponse) bool {
	if response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented || response.StatusCode == http.StatusForbidden {
		return false
	}
	return strings.HasPrefix(strings.ToUpper(response.Code), "KMS") || strings.Contains(strings.ToLower(response.Message), "encryption")
}

// isTemporary says whether an error below HTTP comes from a server that is not there at the moment: every failed request, but for those of
// which the endpoint or its certificate is the cause.
func isTemporary(err error) bool {
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) || errors.Is(err, http.ErrSchemeMismatch) {
		return false
	}
	var request *url.Error
	var network net.Error
	return errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF)
}
