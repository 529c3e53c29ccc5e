package pubsub

// Readers is who of one loop's clients has read which keys, for CLIENT TRACKING without BCAST. It
// belongs to the loop's goroutine. S is what the loop knows a client by.
//
// Only clients that track are in it. A key is remembered for a client when the command that reads
// it is sent, and forgotten with the first news of it: a client that was told of a change holds
// no copy of the value, and hears no more of the key before it has read it again.
//
// Invariant: a client is in byKey[k] exactly if k is in byClient of it.
type Readers[S comparable] struct {
	byKey    map[string]map[S]struct{} // no entry without a client
	byClient map[S]map[string]struct{} // an entry for each client that tracks
	max      int                       // keys in byKey
}

// NewReaders makes one that remembers the readers of at most so many keys, as
// tracking-table-max-keys says for a server.
func NewReaders[S comparable](keysMax int) *Readers[S] {
	return &Readers[S]{byKey: make(map[string]map[S]struct{}), byClient: make(map[S]map[string]struct{}), max: keysMax}
}

// Track begins to remember what a client reads.
func (x *Readers[S]) Track(who S) {
	if x.byClient[who] == nil {
		x.byClient[who] = make(map[string]struct{})
	}
}

// Untrack forgets the client and all that it has read.
func (x *Readers[S]) Untrack(who S) {
	for key := range x.byClient[who] {
		x.forget(key, who)
	}
	delete(x.byClient, who)
}

func (x *Readers[S]) forget(key string, who S) {
	set := x.byKey[key]
	if delete(set, who); len(set) == 0 {
		delete(x.byKey, key)
	}
}

// Remember makes a client that tracks a reader of a key. If there is no room for one more key then
// some other is to make room, and full is true: its readers have to be told that it has changed, by
// Changed, before this key can be remembered.
func (x *Readers[S]) Remember(key string, who S) (other string, full bool) {
	mine := x.byClient[who]
	if mine == nil {
		return "", false
	}
	if _, have := mine[key]; have {
		return "", false
	}
	set := x.byKey[key]
	if set == nil {
		if len(x.byKey) >= x.max {
			for other := range x.byKey {
				return other, true
			}
		}
		set = make(map[S]struct{})
		x.byKey[key] = set
	}
	set[who] = struct{}{}
	mine[key] = struct{}{}
	return "", false
}

// Changed forgets a key and gives those who have read it, in no order.
func (x *Readers[S]) Changed(key string) map[S]struct{} {
	set := x.byKey[key]
	delete(x.byKey, key)
	for who := range set {
		delete(x.byClient[who], key)
	}
	return set
}

// Forget forgets all keys, and no client: all of them may have changed.
func (x *Readers[S]) Forget() {
	clear(x.byKey)
	for _, mine := range x.byClient {
		clear(mine)
	}
}

// All are the clients that track, in no order. It must not be changed but by Untrack.
func (x *Readers[S]) All() map[S]map[string]struct{} { return x.byClient }

// Counts are how many keys have readers, and how many readers they have together.
func (x *Readers[S]) Counts() (keys, readers int) {
	for _, set := range x.byKey {
		readers += len(set)
	}
	return len(x.byKey), readers
}
