package testetcd

import "keyferry/internal/testredis"

// StartT starts one member, which ends with the test.
func StartT(t testredis.TB, args ...string) *Server {
	t.Helper()
	s, err := Start(Options{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	stopWith(t, s)
	return s
}

// StartClusterT starts several members, which end with the test.
func StartClusterT(t testredis.TB, n int) []*Server {
	t.Helper()
	all, err := StartCluster(n, Options{})
	if err != nil {
		t.Fatal(err)
	}
	stopWith(t, all...)
	return all
}

func stopWith(t testredis.TB, all ...*Server) {
	t.Cleanup(func() {
		for _, s := range all {
			if err := s.Stop(); err != nil {
				t.Errorf("stop etcd at %s: %v", s.Addr, err)
			}
		}
	})
}
