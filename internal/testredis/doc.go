// Package testredis runs real redis-server processes for tests and for the
// demo. Nothing in keyferry is tested against an imitation of Redis: what a
// server does when it is killed, frozen or restarted is what we must survive.
//
// A server dies with the process that started it, even when that process is
// killed with SIGKILL, so that an aborted test run leaves nothing behind.
package testredis
