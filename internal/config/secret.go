package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that must not be seen: it prints *** (nothing when empty) in every format,
// in JSON, in YAML and in logs. Reveal gives the text itself.
type Secret struct{ text string }

const hidden = "***"

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text, for the one place that sends it.
func (s Secret) Reveal() string { return s.text }

// Empty says whether there is no text.
func (s Secret) Empty() bool { return s.text == "" }

func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return hidden
}

// Format covers every verb: %#v and %x would else walk into the field.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// GoString is for %#v of containers.
func (s Secret) GoString() string { return s.String() }

// MarshalJSON hides the text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText hides the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML hides the text.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue hides the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
