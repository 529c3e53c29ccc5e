package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Gateway is one keyferry process. Its incarnation is new with every start, so that a gateway
// that was started again can tell its former self's connections from its own.
//
//	          Admit              Fence             Admit
//	unknown ────────► admitted ──────────► out ────────────► admitted, the next incarnation
//
// A gateway is admitted by an epoch before it opens a connection to any server. The epoch that
// takes an incarnation out fences it: whoever is about to rely on that kills its connections at
// the servers, and one that it opens later is validated against the store and refused. Gateways
// that are out are remembered, since their connections are known by their names.
type Gateway struct {
	Name        string `json:"name"`
	Incarnation uint64 `json:"incarnation"`
	Out         bool   `json:"out,omitempty"`      // this incarnation is not admitted any more
	Draining    bool   `json:"draining,omitempty"` // it gets no jobs, and is about to go
	GatewayAddrs
	Version string `json:"version,omitempty"` // of the program
}

// GatewayAddrs are where a gateway can be reached; "" where it listens to nobody.
type GatewayAddrs struct {
	Clients string `json:"clients,omitempty"`
	Peers   string `json:"peers,omitempty"`
	Admin   string `json:"admin,omitempty"`
	HTTP    string `json:"http,omitempty"`
}

// MaxGatewaysOut bounds the gateways that are remembered though they are out. Those that went
// first are forgotten first.
const MaxGatewaysOut = 256

// Gateway finds a gateway by name, admitted or not.
func (t *Topology) Gateway(name string) (Gateway, bool) {
	for _, g := range t.Gateways {
		if g.Name == name {
			return g, true
		}
	}
	return Gateway{}, false
}

// Admitted reports that this incarnation of a gateway is the one that may talk to servers.
func (t *Topology) Admitted(name string, incarnation uint64) bool {
	g, ok := t.Gateway(name)
	return ok && !g.Out && g.Incarnation == incarnation
}

// AdmittedGateways are the gateways that are, in the order of their names.
func (t *Topology) AdmittedGateways() []Gateway {
	var in []Gateway
	for _, g := range t.Gateways {
		if !g.Out {
			in = append(in, g)
		}
	}
	slices.SortFunc(in, func(a, b Gateway) int { return strings.Compare(a.Name, b.Name) })
	return in
}

// Admit lets a gateway in that starts, and gives it its new incarnation; an earlier one of the
// same name is fenced by that. It gets the jobs that no gateway of the cluster runs. g.Incarnation,
// g.Out and g.Draining don't matter.
func (s *State) Admit(g Gateway) uint64 {
	g.Incarnation, g.Out, g.Draining = 1, false, false
	if i := s.gatewayIndex(g.Name); i >= 0 {
		g.Incarnation = s.Gateways[i].Incarnation + 1
		s.Gateways = slices.Delete(s.Gateways, i, i+1)
	}
	s.Gateways = append(s.Gateways, g)
	for _, j := range s.Jobs {
		if o, ok := s.Gateway(j.Owner); !j.Phase.Ended() && (!ok || o.Out) {
			s.setOwnerOf(j.ID, g.Name)
		}
	}
	return g.Incarnation
}

// Drain gives the jobs of a gateway whose slots move to others, and no more jobs to it, until it is admitted
// anew. It goes on to serve clients. A job that has not begun to move is left: what its preflight has
// under way could still remove keys, and only a gateway that is out can be kept from that. Drain is
// refused where no other gateway could take the jobs.
func (s *State) Drain(name string) error {
	i := s.gatewayIndex(name)
	if i < 0 || s.Gateways[i].Out {
		return fmt.Errorf("gateway %q is no part of the cluster", name)
	}
	if s.LeastBusy(name) == "" {
		return fmt.Errorf("no other gateway is there to take the jobs of %s", name)
	}
	s.Gateways[i].Draining = true
	s.giveAway(name, func(j *Job) bool { return j.Published })
	return nil
}

// AdmitAlone is Admit where no other gateway can be: all others are out, and g owns every job
// that has not ended.
func (s *State) AdmitAlone(g Gateway) uint64 {
	n := s.Admit(g)
	for _, o := range slices.Clone(s.Gateways) {
		if o.Name != g.Name {
			s.Fence(o.Name, o.Incarnation)
		}
	}
	for _, j := range s.Jobs {
		if !j.Phase.Ended() && j.Owner != g.Name {
			s.setOwnerOf(j.ID, g.Name)
		}
	}
	return n
}

// Fence takes an incarnation of a gateway out. Nothing changes if it is out, or has been
// followed by another, already.
func (t *Topology) Fence(name string, incarnation uint64) {
	i := t.gatewayIndex(name)
	if i < 0 || t.Gateways[i].Out || t.Gateways[i].Incarnation != incarnation {
		return
	}
	g := t.Gateways[i]
	g.Out = true
	t.Gateways = append(slices.Delete(t.Gateways, i, i+1), g) // behind those that went before it
	t.forgetGateways()
}

// forgetGateways drops those beyond the bound that went out first and own nothing.
func (t *Topology) forgetGateways() {
	out := 0
	for _, g := range t.Gateways {
		if g.Out {
			out++
		}
	}
	t.Gateways = slices.DeleteFunc(t.Gateways, func(g Gateway) bool {
		if out > MaxGatewaysOut && g.Out && !t.ownsMove(g.Name) {
			out--
			return true
		}
		return false
	})
}

func (t *Topology) ownsMove(gateway string) bool {
	return slices.ContainsFunc(t.Moves, func(m Move) bool { return m.To == 0 && m.Owner == gateway })
}

// RemoveGateway forgets a gateway that is out and owns no job.
func (s *State) RemoveGateway(name string) error {
	i := s.gatewayIndex(name)
	switch {
	case i < 0:
		return fmt.Errorf("no such gateway %q", name)
	case !s.Gateways[i].Out:
		return fmt.Errorf("gateway %s is part of the cluster: stop it first", name)
	}
	for _, j := range s.Jobs {
		if !j.Phase.Ended() && j.Owner == name {
			return fmt.Errorf("gateway %s owns job %s (%s)", name, j.ID, j.Phase)
		}
	}
	s.Gateways = slices.Delete(s.Gateways, i, i+1)
	return nil
}

// SetJobOwner gives a job that has not ended to another gateway, which must be admitted.
func (s *State) SetJobOwner(id, gateway string) error {
	j := s.Job(id)
	switch {
	case j == nil:
		return fmt.Errorf("no such job %q", id)
	case j.Phase.Ended():
		return fmt.Errorf("job %s is %s", id, j.Phase)
	}
	if g, ok := s.Gateway(gateway); !ok || g.Out {
		return fmt.Errorf("gateway %q is no part of the cluster", gateway)
	}
	s.setOwnerOf(id, gateway)
	return nil
}

// GiveAway gives the jobs of a gateway that have not ended to those that are part of the cluster,
// each to the one that has the fewest. It does nothing if there is none but itself.
func (s *State) GiveAway(name string) { s.giveAway(name, func(*Job) bool { return true }) }

func (s *State) giveAway(name string, which func(*Job) bool) {
	for _, j := range s.Jobs {
		if j.Owner == name && !j.Phase.Ended() && which(&j) {
			if to := s.LeastBusy(name); to != "" {
				s.setOwnerOf(j.ID, to)
			}
		}
	}
}

// LeastBusy is the gateway, but for one, that is part of the cluster, is not draining, and owns the fewest jobs
// that have not ended; of several they take turns, from job to job. "" if there is none.
func (s *State) LeastBusy(but string) (least string) {
	jobs := make(map[string]int)
	for _, j := range s.Jobs {
		if !j.Phase.Ended() {
			jobs[j.Owner]++
		}
	}
	in := s.AdmittedGateways()
	for i := range in {
		g := in[(uint64(i)+s.NextJob)%uint64(len(in))]
		if g.Name != but && !g.Draining && (least == "" || jobs[g.Name] < jobs[least]) {
			least = g.Name
		}
	}
	return least
}

func (s *State) setOwnerOf(id, gateway string) {
	s.Job(id).Owner = gateway
	if m := s.moving(id); m != nil && m.Owner != gateway {
		m.Former, m.Owner, m.OwnedFrom = m.Owner, gateway, s.Epoch+1
	}
}

func (t *Topology) gatewayIndex(name string) int {
	return slices.IndexFunc(t.Gateways, func(g Gateway) bool { return g.Name == name })
}

func (t *Topology) validateGateways() error {
	seen := make(map[string]bool)
	for _, g := range t.Gateways {
		if seen[g.Name] || g.Name == "" {
			return fmt.Errorf("gateway name %q is empty or used twice", g.Name)
		}
		seen[g.Name] = true
	}
	for _, m := range t.Moves {
		if m.To == 0 && m.Owner != "" && !seen[m.Owner] {
			return fmt.Errorf("move of job %s belongs to gateway %q, which there is not", m.Job, m.Owner)
		}
	}
	return nil
}
