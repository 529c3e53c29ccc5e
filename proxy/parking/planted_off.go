//go:build !failpoints

package parking

// plant is empty in this build, and what depends on it is not even compiled.
type plant struct{}

func (plant) is(Mistake) bool { return false }
