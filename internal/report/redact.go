package report

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Redacted is what stands in the place of what may be a secret.
const Redacted = "REDACTED"

// Redact takes out of an object, as decoded from JSON, what its users may have written a secret into, and of which nobody needs to know more than that it is
// there: the values of environment variables, commands and their arguments, the headers of requests, attributes of volumes, and the values of annotations that
// are not ours. The own programs of the operator keep their arguments, which are named in its documentation.
func Redact(object map[string]any) {
	labels, _ := dig(object, "metadata", "labels").(map[string]any)
	name, _ := labels["app.kubernetes.io/name"].(string)
	redact(object, name == "checkpoint-manager" || name == "checkpoint-agent")
}

func dig(object map[string]any, path ...string) any {
	var value any = object
	for _, name := range path {
		inner, _ := value.(map[string]any)
		value = inner[name]
	}
	return value
}

func redact(value any, own bool) {
	switch value := value.(type) {
	case []any:
		for _, inner := range value {
			redact(inner, own)
		}
	case map[string]any:
		for key, inner := range value {
			switch key {
			case "managedFields":
				delete(value, key)
			case "annotations":
				redactAnnotations(inner)
			case "env", "httpHeaders":
				redactValues(inner)
			case "volumeAttributes", "options", "headers", "stringData":
				redactAll(inner)
			case "command", "args", "exec":
				if words, is := inner.([]any); is && !own {
					value[key] = fmt.Sprintf("%s, %d words", Redacted, len(words))
				} else {
					redact(inner, own)
				}
			case "caBundle":
				value[key] = fmt.Sprintf("%d characters", len(fmt.Sprint(inner)))
			default:
				redact(inner, own)
			}
		}
	}
}

// redactValues is for lists of names with values.
func redactValues(list any) {
	entries, _ := list.([]any)
	for _, entry := range entries {
		if named, is := entry.(map[string]any); is {
			if _, has := named["value"]; has {
				named["value"] = Redacted
			}
		}
	}
}

func redactAll(values any) {
	named, _ := values.(map[string]any)
	for key := range named {
		named[key] = Redacted
	}
}

// redactAnnotations leaves the values of our own, but for commands.
func redactAnnotations(annotations any) {
	named, _ := annotations.(map[string]any)
	for key, value := range named {
		prefix, _, _ := strings.Cut(key, "/")
		isOurs := prefix == "memverge.ai" || prefix == "checkpoint.memverge.ai"
		switch {
		case key == keys.Effective:
			named[key] = redactSettings(fmt.Sprint(value))
		case !isOurs || strings.HasSuffix(key, "-hook"):
			named[key] = Redacted
		}
	}
}

// redactSettings takes the commands out of effective settings.
func redactSettings(text string) string {
	var settings map[string]any
	if json.Unmarshal([]byte(text), &settings) != nil {
		return Redacted
	}
	for key, value := range settings {
		if strings.HasPrefix(key, "pre") || strings.HasPrefix(key, "post") {
			commands, _ := value.([]any)
			settings[key] = fmt.Sprintf("%s, %d", Redacted, len(commands))
		}
	}
	redacted, err := json.Marshal(settings)
	if err != nil {
		return Redacted
	}
	return string(redacted)
}

// What looks like a secret in a text: a name that says so with its value, the user in a URL, an access key of AWS, a token.
var (
	named = regexp.MustCompile(`(?i)\b((?:[a-z]+[_-])*(?:password|passwd|passphrase|(?:session[_-]?)?token|secret(?:[_-]?access)?(?:[_-]?key)?|` +
		`(?:access|api)[_-]?key(?:[_-]?id)?))\b(\\?["']?\s*[:=]\s*\\?["']?)[^\s"',;}\\]+`)
	header = regexp.MustCompile(`(?i)\b(authorization\\?["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic)\s+)?[^\s"',;}\\]+|\bbearer\s+[A-Za-z0-9._~+/=-]{8,}`)
	user   = regexp.MustCompile(`://[^/\s@"']+@`)
	awsKey = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`)
	jwt    = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)
)

// RedactText takes out of a text, as a log, what looks like a secret. What does not look like one stays: nobody writes secrets there.
func RedactText(text []byte) []byte {
	text = named.ReplaceAll(text, []byte("${1}${2}"+Redacted))
	text = header.ReplaceAll(text, []byte("${1}"+Redacted))
	text = user.ReplaceAll(text, []byte("://"+Redacted+"@"))
	text = awsKey.ReplaceAll(text, []byte(Redacted))
	return jwt.ReplaceAll(text, []byte(Redacted))
}
