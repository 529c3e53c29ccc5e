package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"keyferry/internal/topology"
)

// TestDamagedPages: pages of a file are lost, or noise, and its head is whole. Checkpoints begin
// anew, in whatever they are damaged; a State that can't be read is an error that says so.
func TestDamagedPages(t *testing.T) {
	ctx := context.Background()
	page := os.Getpagesize()
	for _, damage := range []struct {
		name string
		do   func(file []byte) []byte
	}{
		{"zeros", func(b []byte) []byte { clear(b[2*page:]); return b }},
		{"noise", func(b []byte) []byte {
			for i := 2 * page; i < len(b); i++ {
				b[i] = byte(i * 7)
			}
			return b
		}},
		{"cut off", func(b []byte) []byte { return b[:2*page] }},
	} {
		for _, file := range []string{"checkpoints.db", "topology.db"} {
			t.Run(file+" "+damage.name, func(t *testing.T) {
				dir := t.TempDir()
				s, err := Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				st := topology.NewState("redis", 16384, 16)
				if err := topology.Create(ctx, s, st); err != nil {
					t.Fatal(err)
				}
				for i := range 100 {
					if err := s.SaveCheckpoint(ctx, topology.Checkpoint{Job: fmt.Sprint("m", i)}); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, file)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage.do(b), 0o600); err != nil {
					t.Fatal(err)
				}
				s, err = Open(dir)
				if file == "topology.db" {
					if err == nil {
						_ = s.Close()
						t.Error("a damaged topology.State is taken")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := s.SaveCheckpoint(ctx, topology.Checkpoint{Job: "m1", Cursor: 7}); err != nil {
					t.Error(err)
				}
				if got, err := s.Load(ctx); err != nil || got.ClusterID != st.ClusterID {
					t.Errorf("the State: %+v, %v", got, err)
				}
				_ = s.Close()
			})
		}
	}
}
