//go:build !failpoints

package failpoint

// Hit does nothing in this build.
func Hit(string) {}

// On is false in this build, so that what depends on it is not even compiled.
func On(string) bool { return false }

// Fails is false in this build.
func Fails(string) bool { return false }
