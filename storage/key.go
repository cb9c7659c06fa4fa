package storage

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of a key in bytes. S3 takes 1024 bytes of any form; what is missing here is left to the prefix of an adapter, and one element
// has to fit into a directory (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html).
const (
	MaxKeyLength     = 768
	MaxElementLength = 255
)

// CheckKey returns ErrInvalid unless key is 1 to MaxKeyLength bytes of UTF-8 that consist of elements with "/" between them, none of them
// empty, ".", ".." or longer than MaxElementLength, without control characters and backslashes. The error begins with the name of the field.
func CheckKey(field, key string) error {
	if err := checkText(field, key); err != nil {
		return err
	}
	for element := range strings.SplitSeq(key, "/") {
		if err := checkElement(field, key, element); err != nil {
			return err
		}
	}
	return nil
}

// CheckPrefix returns ErrInvalid unless prefix can be the beginning of a key. The empty one can, and it may end within an element.
func CheckPrefix(field, prefix string) error {
	if err := checkText(field, prefix); err != nil {
		return err
	}
	elements := strings.Split(prefix, "/")
	for _, element := range elements[:len(elements)-1] {
		if err := checkElement(field, prefix, element); err != nil {
			return err
		}
	}
	return nil
}

func checkText(field, text string) error {
	switch {
	case len(text) > MaxKeyLength:
		return fmt.Errorf("%s has %d bytes; it may have %d: %w", field, len(text), MaxKeyLength, ErrInvalid)
	case !utf8.ValidString(text):
		return fmt.Errorf("%s is %q; it may only be UTF-8: %w", field, text, ErrInvalid)
	case strings.ContainsFunc(text, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		return fmt.Errorf("%s is %q; it may not contain backslashes and control characters: %w", field, text, ErrInvalid)
	}
	return nil
}

func checkElement(field, text, element string) error {
	switch {
	case element == "":
		return fmt.Errorf("%s is %q; it may not be empty, nor begin or end with \"/\", nor contain \"//\": %w", field, text, ErrInvalid)
	case element == "." || element == "..":
		return fmt.Errorf("%s is %q; it may not have the element %q: %w", field, text, element, ErrInvalid)
	case len(element) > MaxElementLength:
		return fmt.Errorf("%s has an element of %d bytes; it may have %d: %w", field, len(element), MaxElementLength, ErrInvalid)
	}
	return nil
}
