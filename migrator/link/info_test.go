package link

import "testing"

// TestVersion: two Valkeys that say that they are the same Redis are of two versions.
func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		"# Server\r\nredis_version:7.0.15\r\n":                                                      "7.0.15",
		"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n":         "Valkey 8.1.1",
		"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.0\r\nos:x\r\n": "Valkey 9.1.0",
	} {
		if got := ReadInfo(text).Version; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
