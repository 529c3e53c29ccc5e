package memory

import (
	"testing"

	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

func TestContract(t *testing.T) {
	storetest.Contract(t, func(*testing.T) func() topology.Store {
		c := &Cluster{}
		return func() topology.Store { return c.Open() }
	})
}

func TestMembersContract(t *testing.T) {
	storetest.Members(t, func(*testing.T) func() storetest.Joint {
		c := &Cluster{}
		return func() storetest.Joint { return c.Open() }
	})
}
