package testrig

import (
	"context"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
)

// Keys is how many keys a server has in database 0, without the gateway's stamp; -1 if it does not answer.
func Keys(ctx context.Context, c *redis.Client) int64 {
	n, err := c.DBSize(ctx).Result()
	if err != nil {
		return -1
	}
	stamp, err := c.Exists(ctx, topology.StampKey).Result()
	if err != nil {
		return -1
	}
	return n - stamp
}
