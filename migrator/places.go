package migrator

import (
	"context"
	"sync"
)

// places bound how many batches of all jobs are under way at one server, so that many jobs
// at once do not gang up on it: each of them would see nothing but itself being slow.
//
//	job 1  A → B ─┐
//	job 2  A → C ─┼─► places of A ─► places of B, or C ─► batch ─► given back
//	job 3  B → C ─┘
//
// A batch takes one place at either end, in the order of the groups' names, so that jobs
// which cross wait for each other in no circle. It holds no key while it waits. Who waits
// longest is next.
type places struct {
	each int // at one group; 0: no bound

	mu sync.Mutex // protects of
	of map[string]chan struct{}
}

func (p *places) at(group string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = make(map[string]chan struct{})
	}
	c := p.of[group]
	if c == nil {
		c = make(chan struct{}, p.each)
		p.of[group] = c
	}
	return c
}

func (p *places) pair(a, b string) (first, second chan struct{}) {
	return p.at(min(a, b)), p.at(max(a, b))
}

// take waits for a place at both groups; leave gives them back.
func (p *places) take(ctx context.Context, a, b string) (leave func(), err error) {
	if p == nil || p.each == 0 {
		return func() {}, nil
	}
	first, second := p.pair(a, b)
	select {
	case first <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case second <- struct{}{}:
	case <-ctx.Done():
		<-first
		return nil, ctx.Err()
	}
	return func() { <-second; <-first }, nil
}

// tryTake is take where waiting is out of the question.
func (p *places) tryTake(a, b string) (leave func(), ok bool) {
	if p == nil || p.each == 0 {
		return func() {}, true
	}
	first, second := p.pair(a, b)
	select {
	case first <- struct{}{}:
	default:
		return nil, false
	}
	select {
	case second <- struct{}{}:
		return func() { <-second; <-first }, true
	default:
		<-first
		return nil, false
	}
}
