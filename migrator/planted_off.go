//go:build !failpoints

package migrator

func (w *worker) plantedUnlink(int, []*keyMove) {}
