package bolt

import (
	"testing"

	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

func TestArchive(t *testing.T) {
	place := func() topology.Archive { return openBolt(t, t.TempDir()) }
	storetest.Archive(t, place, place)
}
