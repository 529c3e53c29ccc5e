//go:build !failpoints

package slotlock

// CommitForgetting is Commit; see failpoint.PlantNoCreated.
func (t *Table) CommitForgetting(k Key) { t.Commit(k) }

func (t *Table) forgot(int, []byte) bool { return false }
