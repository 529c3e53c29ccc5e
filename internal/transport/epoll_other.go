//go:build !linux

package transport

import "errors"

const haveEpoll = false

func startEpoll(Options, Handler) (Engine, error) {
	return nil, errors.New(`transport "epoll" is for Linux: use "auto" or "gnet"`)
}
