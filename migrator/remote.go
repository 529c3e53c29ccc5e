package migrator

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
)

// Jobs of other gateways. Every gateway shows all jobs and takes every verb: what is about a job is
// passed on to its owner, who alone changes it, and what its status is beyond what is stored is asked
// of the owner while the job goes on.
//
//	PROXY MIGRATION PAUSE m7 ─► tell ─► not mine ─► Peers.Call(owner, "tell") ═► Serve ─► tell ─► runner

// Peers asks other gateways of the cluster.
type Peers interface {
	// Call has a gateway carry out a method of Manager.Serve. Errors: the gateway's own, and those of
	// the way there, which leave the outcome open.
	Call(ctx context.Context, gateway, method string, body []byte) (reply []byte, err error)
	// Hold is Call for what the gateway is to hold until release is called, or this gateway dies.
	Hold(ctx context.Context, gateway, method string, body []byte) (release func(), err error)
}

// SetPeers tells the Manager how to ask other gateways. Call it before Begin; without it there are none.
func (m *Manager) SetPeers(p Peers) { m.plane.peers = p }

// Methods of Serve.
const (
	methodTell    = "tell"    // remoteEvent → nothing
	methodJobs    = "jobs"    // nothing → []Status of the open jobs that this gateway owns
	methodQuiesce = "quiesce" // nothing → nothing; its movers stand still until it is released
	methodEmpty   = "empty"   // the same, and the gateways' own keys at servers may be removed meanwhile
)

// remoteEvent is what an operator says to a job of another gateway.
type remoteEvent struct {
	Job   string
	Event job.Event
}

// remote is what other gateways have said of their jobs. Manager.mu protects it.
type remote struct {
	status map[string]Status // by job
}

// remoteEvery is how often the owners of open jobs are asked about them.
const remoteEvery = 500 * time.Millisecond

// remoteWait bounds one such question.
const remoteWait = 2 * time.Second

// tellOwner passes an operator's event on. The owner decides by itself whether a revert is refused.
func (m *Manager) tellOwner(ctx context.Context, j topology.Job, ev job.Event, refusal error) error {
	if refusal != nil {
		return refusal
	}
	body, err := json.Marshal(remoteEvent{j.ID, ev})
	if err != nil {
		return err
	}
	if m.plane.peers == nil {
		return fmt.Errorf("job %s is run by gateway %s, which can't be asked", j.ID, j.Owner)
	}
	if _, err := m.plane.peers.Call(ctx, j.Owner, methodTell, body); err != nil {
		return fmt.Errorf("gateway %s, which runs job %s: %w", j.Owner, j.ID, err)
	}
	// Whoever asks this gateway next sees what has come of it, as far as it is stored by now.
	st, err := m.store.Load(ctx)
	if err != nil {
		return nil // it is done all the same
	}
	_ = m.control.Await(ctx, func() bool { return m.control.Revision() >= st.Revision })
	return nil
}

// Serve carries out a method for another gateway. release, if there is one, ends what it holds.
func (m *Manager) Serve(ctx context.Context, method string, body []byte) (reply []byte, release func(), err error) {
	switch method {
	case methodTell:
		return nil, nil, m.serveTell(ctx, body)
	case methodJobs:
		reply, err = json.Marshal(m.ownJobs())
		return reply, nil, err
	case methodQuiesce:
		release, err = m.quiesce(ctx)
		return nil, release, err
	case methodEmpty:
		release, err = m.quiesceToEmpty(ctx)
		return nil, release, err
	}
	return nil, nil, fmt.Errorf("unknown method %q: gateways of different versions?", method)
}

func (m *Manager) serveTell(ctx context.Context, body []byte) error {
	var e remoteEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	if j, known := m.control.Job(e.Job); known && !m.control.Mine(j.Owner) {
		return fmt.Errorf("job %s belongs to gateway %s by now: ask again", e.Job, j.Owner)
	}
	var refusal error
	if e.Event.Kind == job.CancelBy && e.Event.Revert {
		_, refusal = m.refuseRevert(ctx, e.Job) // the warning is with who asked
	}
	return m.tell(ctx, e.Job, e.Event, refusal)
}

// ownJobs are the open jobs that this gateway owns.
func (m *Manager) ownJobs() []Status {
	var own []Status
	for _, s := range m.Jobs() {
		if !s.Phase.Ended() && m.control.Mine(s.Owner) {
			own = append(own, s)
		}
	}
	return own
}

// followRemote asks the owners of other open jobs for their status, until ctx ends.
func (m *Manager) followRemote(ctx context.Context) {
	if m.plane.peers == nil {
		return
	}
	t := time.NewTicker(remoteEvery)
	defer t.Stop()
	told := make(map[string]uint64)
	for {
		select {
		case <-t.C:
			m.tellRemote(ctx, told)
			m.askOwners(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// tellRemote tells the subscribers what has happened to jobs of other gateways, as the history has it. told
// is the number of the last event of each job that they have heard of.
func (m *Manager) tellRemote(ctx context.Context, told map[string]uint64) {
	if m.subscribers.idle() {
		clear(told)
		return
	}
	for _, j := range m.control.State().Jobs {
		last, heard := told[j.ID]
		if m.control.Mine(j.Owner) || j.Phase.Ended() && !heard {
			continue
		}
		events, err := m.store.Events(ctx, j.ID)
		if err != nil || len(events) == 0 {
			continue
		}
		for _, e := range events {
			if heard && e.Seq > last {
				m.announce(e)
			}
		}
		if told[j.ID] = events[len(events)-1].Seq; j.Phase.Ended() && told[j.ID] == last {
			delete(told, j.ID)
		}
	}
}

// askOwners asks each of them at the same time: one that does not answer is not waited for by others.
func (m *Manager) askOwners(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, remoteWait)
	defer cancel()
	status := make(map[string]Status)
	var mu sync.Mutex // protects status
	var wg sync.WaitGroup
	for owner := range m.otherOwners() {
		wg.Go(func() {
			var list []Status
			reply, err := m.plane.peers.Call(ctx, owner, methodJobs, nil)
			if err != nil || json.Unmarshal(reply, &list) != nil {
				return // then it is what is stored that is shown
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range list {
				status[s.ID] = s
			}
		})
	}
	wg.Wait()
	m.mu.Lock()
	m.remote.status = status
	m.mu.Unlock()
}

// otherOwners are the other gateways that own open jobs.
func (m *Manager) otherOwners() map[string]bool {
	owners := make(map[string]bool)
	for _, j := range m.control.State().Jobs {
		if !j.Phase.Ended() && !m.control.Mine(j.Owner) {
			owners[j.Owner] = true
		}
	}
	return owners
}

// quiesceOthers has the movers of other gateways stand still until resume is called, by one of the two
// methods: also of those that own no job, which could begin with one.
func (m *Manager) quiesceOthers(ctx context.Context, method string) (resume func(), err error) {
	var held []func()
	resume = func() {
		for _, release := range held {
			release()
		}
	}
	st := m.control.State()
	for _, g := range st.AdmittedGateways() {
		if m.control.Mine(g.Name) || m.plane.peers == nil {
			continue
		}
		release, err := m.plane.peers.Hold(ctx, g.Name, method, nil)
		if err != nil {
			resume()
			return nil, fmt.Errorf("gateway %s could not be asked to move no keys meanwhile: %w", g.Name, err)
		}
		held = append(held, release)
	}
	return resume, nil
}
