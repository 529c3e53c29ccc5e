// Package testetcd runs real etcd processes for tests and for the demo, as testredis does
// for redis-server: one member, or a cluster of several. A member dies with the process that
// started it.
package testetcd
