package clients

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// TestFacadeKnowsWhereItWasReached: a gateway that listens at every address and was told of
// none tells each client to connect to the one that it has used.
func TestFacadeKnowsWhereItWasReached(t *testing.T) {
	r := testrig.Bare(t)
	_, port, _ := strings.Cut(r.Listen, ":")
	r.Args = []string{"--listen", ":" + port, "--set", "cluster-facade=on"}
	r.Servers = []*testredis.Server{testredis.StartT(t)}
	r.Start("")
	r.Assign()
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		c := testredis.NewClient(host+":"+port, "", 0)
		defer c.Close()
		shards, err := c.ClusterShards(context.Background()).Result()
		if err != nil || len(shards) != 1 || shards[0].Nodes[0].Endpoint != host || fmt.Sprint(shards[0].Nodes[0].Port) != port {
			t.Errorf("at %s: CLUSTER SHARDS gives %+v, %v", host, shards, err)
		}
		cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{host + ":" + port}, MaxRedirects: -1})
		defer cluster.Close()
		if err := cluster.Set(context.Background(), "k", host, 0).Err(); err != nil {
			t.Errorf("a cluster client at %s: %v", host, err)
		}
		list, err := c.Do(context.Background(), "CLIENT", "LIST").Text()
		if err != nil || !strings.Contains(list, " laddr="+host+":"+port+" ") {
			t.Errorf("at %s: CLIENT LIST has %q, %v", host, list, err)
		}
	}
}
