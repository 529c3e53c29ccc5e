package pubsub

// Listeners is who of one loop's clients listens to which channel. It belongs to the loop's
// goroutine. S is what the loop knows a client by.
//
// A client is here from when the servers have confirmed its subscription until it ends it, so that
// it gets no message before its own reply to SUBSCRIBE; the Hub counts it somewhat longer.
type Listeners[S comparable] struct {
	of map[Key]map[S]struct{} // no entry without a client
}

// Add makes a client a listener of a channel. A second time it does nothing.
func (x *Listeners[S]) Add(k Key, who S) {
	if x.of == nil {
		x.of = make(map[Key]map[S]struct{})
	}
	set := x.of[k]
	if set == nil {
		set = make(map[S]struct{})
		x.of[k] = set
	}
	set[who] = struct{}{}
}

// Remove ends that.
func (x *Listeners[S]) Remove(k Key, who S) {
	set := x.of[k]
	if delete(set, who); len(set) == 0 {
		delete(x.of, k)
	}
}

// Of are the listeners of a channel, in no order. Who iterates may remove any of them meanwhile:
// a client that can take no more is closed by the message that is too much.
func (x *Listeners[S]) Of(k Key) map[S]struct{} { return x.of[k] }
