// Package testrig runs the gateway, as a process of its own built with the race detector
// and failpoints, between real redis-servers and the clients of black-box tests.
package testrig
