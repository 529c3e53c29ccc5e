package etcd

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyferry/internal/topology"
)

// What is stored of one cluster, all of it below its prefix:
//
//	state/head                    head: the revision, and the checksums of the other parts of the State
//	state/topology                topology.Topology, packed
//	state/jobs/00 … 63            topology.Job, packed: an open job m<n> is in page n mod 64
//	state/ended/00 … 31           those that have ended, in page n mod 32
//	checkpoints/<job>             topology.Checkpoint
//	events/<job>/<seq>            topology.JobEvent
//	gateways/<name>/registration  topology.Registration ┐ both under the gateway's lease,
//	gateways/<name>/acknowledged  an epoch              ┘ and gone with it
//
// etcd takes no request of more than 1.5 MB and no transaction of more than 128 operations, and a
// change of the State is one transaction, whatever it changes. A value for each job would be 1,000
// operations for a rebalance of 1,000 jobs; one value for all jobs would be written whole with every
// step of one. With 64 pages a step writes a few jobs, and no change has more than 98 operations,
// however many jobs there are. The ended ones, whose records are the longest, are not written again
// when open ones change. Packed (JSON, deflated) the largest cluster and 1,000 jobs that change at
// once take half of a request; TestSizes holds the numbers.
const (
	stateKey       = "state/"
	headName       = "head"
	topologyName   = "topology"
	jobsName       = "jobs/"
	endedName      = "ended/"
	checkpointsKey = "checkpoints/"
	eventsKey      = "events/"
	gatewaysKey    = "gateways/"
)

// The numbers of pages are part of the format: others would leave jobs in pages where they are no more.
const (
	jobPages   = 64
	endedPages = 32
)

// format is that of what this version writes.
const format = 1

// head says which State is stored: every change of the State writes it, and is made only if it is
// the one that the change was made on.
type head struct {
	Format   int               `json:"format"`
	Revision uint64            `json:"revision"`
	NextJob  uint64            `json:"next_job"`
	By       string            `json:"by"`   // names the change that wrote it, among all changes of all gateways
	Sums     map[string]string `json:"sums"` // by the name of each part that there is; no secret
}

// view is a State as it is stored. It never changes, and views share the parts that are the same
// in both.
type view struct {
	mod   int64 // etcd's revision of the head: no two States have the same
	head  head
	parts map[string]part
}

// part is what a value other than the head holds.
type part struct {
	topology *topology.Topology // of the part topologyName
	jobs     []topology.Job     // of the others
}

// errDamaged is of values that this package has not written so.
var errDamaged = errors.New("what etcd has is not what was stored: somebody has changed or removed keys by hand, or put back some of them. " +
	"Stop all gateways, put a sound snapshot of etcd back, or remove the keys and copy a sound data directory into it (keyferry store copy)")

// state is the State that a view is of, the caller's own; nothing is stored in a nil view.
func (v *view) state() (topology.State, error) {
	if v == nil {
		return topology.State{}, topology.ErrNotFound
	}
	s := topology.State{Revision: v.head.Revision, NextJob: v.head.NextJob}
	for _, p := range v.parts {
		if p.topology != nil {
			s.Topology = p.topology.Clone()
		}
		for _, j := range p.jobs {
			s.Jobs = append(s.Jobs, j.Clone())
		}
	}
	topology.SortJobs(s.Jobs)
	return s, nil
}

// merge makes a view of the keys below state/ that have changed since old, or of all of them when old
// is nil. prefix is that of their names.
func merge(old *view, prefix string, changed []*mvccpb.KeyValue) (*view, error) {
	values := make(map[string][]byte, len(changed))
	v := &view{parts: make(map[string]part)}
	for _, kv := range changed {
		name := strings.TrimPrefix(string(kv.Key), prefix)
		if name != headName {
			values[name] = kv.Value
			continue
		}
		var err error
		if v.head, err = readHead(kv.Value); err != nil {
			return nil, err
		}
		v.mod = kv.ModRevision
	}
	if v.mod == 0 {
		return nil, fmt.Errorf("no %s%s: %w", prefix, headName, errDamaged)
	}
	for name, sum := range v.head.Sums {
		value, ok := values[name]
		delete(values, name)
		var err error
		switch {
		case ok && checksum(value) == sum:
			if v.parts[name], err = readPart(name, value); err != nil {
				return nil, err
			}
		case !ok && old != nil && old.head.Sums[name] == sum:
			v.parts[name] = old.parts[name]
		default:
			return nil, fmt.Errorf("%s%s: %w", prefix, name, errDamaged)
		}
	}
	for name := range values {
		return nil, fmt.Errorf("%s%s does not belong there: %w", prefix, name, errDamaged)
	}
	if v.parts[topologyName].topology == nil {
		return nil, fmt.Errorf("no %s%s: %w", prefix, topologyName, errDamaged)
	}
	return v, nil
}

func readHead(value []byte) (h head, err error) {
	if err := json.Unmarshal(value, &h); err != nil || h.Revision == 0 {
		return head{}, fmt.Errorf("the head of the cluster: %w", errDamaged)
	}
	if h.Format > format {
		return head{}, fmt.Errorf("topology: the cluster in etcd was written by a newer keyferry (format %d, this one knows %d): use that one", h.Format, format)
	}
	return h, nil
}

func readPart(name string, value []byte) (p part, err error) {
	if name == topologyName {
		var t packedTopology
		err = unpack(value, &t)
		p.topology = t.unpacked()
	} else {
		err = unpack(value, &p.jobs)
	}
	if err != nil {
		return part{}, fmt.Errorf("%s: %w: %w", name, err, errDamaged)
	}
	return p, nil
}

// write is a value to be stored under a name below state/; a nil value removes it.
type write struct {
	name  string
	value []byte
}

// writes are the parts that a change writes, without the head; sums becomes what the head is to say.
func writes(next *topology.State, d topology.Difference, sums map[string]string) (out []write, err error) {
	var p packer
	put := func(name string, v any) {
		value, e := p.pack(v)
		err = errors.Join(err, e)
		if sum := checksum(value); sums[name] != sum {
			sums[name] = sum
			out = append(out, write{name, value})
		}
	}
	if d.Topology || sums[topologyName] == "" {
		put(topologyName, packTopology(&next.Topology))
	}
	pages := make(map[string][]topology.Job) // that may change
	touch := func(id string) { pages[pageOf(id, false)], pages[pageOf(id, true)] = nil, nil }
	for _, j := range d.Put {
		touch(j.ID)
	}
	for _, id := range d.Drop {
		touch(id)
	}
	for _, j := range next.Jobs {
		name := pageOf(j.ID, j.Phase.Ended())
		if jobs, ok := pages[name]; ok {
			pages[name] = append(jobs, j)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if len(pages[name]) > 0 {
			put(name, pages[name])
		} else if _, had := sums[name]; had {
			delete(sums, name)
			out = append(out, write{name, nil})
		}
	}
	return out, err
}

// pageOf is the part that a job is in.
func pageOf(id string, ended bool) string {
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "m"), 10, 64)
	if err != nil {
		n = uint64(crc32.ChecksumIEEE([]byte(id)))
	}
	if ended {
		return fmt.Sprintf("%s%02d", endedName, n%endedPages)
	}
	return fmt.Sprintf("%s%02d", jobsName, n%jobPages)
}

// packedTopology names the owner of slots by its place among the groups, since each of 16,384 slots may have
// another owner than the one before, and names of groups have up to 64 characters.
type packedTopology struct {
	topology.Topology
	Runs [][3]int `json:"runs"` // of Slots: the first slot, the last, and the owner's index in Groups
}

func packTopology(t *topology.Topology) packedTopology {
	p := packedTopology{Topology: *t}
	p.Slots = nil
	if t.Slots == nil {
		return p
	}
	index := make(map[string]int, len(t.Groups))
	for i, g := range t.Groups {
		index[g.ID] = i
	}
	p.Runs = make([][3]int, len(t.Slots))
	for i, a := range t.Slots {
		p.Runs[i] = [3]int{a.First, a.Last, index[a.Group]} // valid States have no other
	}
	return p
}

// unpacked leaves out runs of groups that there are not; the checksum has told of those.
func (p *packedTopology) unpacked() *topology.Topology {
	t := &p.Topology
	if p.Runs != nil {
		t.Slots = make([]topology.Assignment, 0, len(p.Runs))
	}
	for _, r := range p.Runs {
		if r[2] >= 0 && r[2] < len(t.Groups) {
			t.Slots = append(t.Slots, topology.Assignment{Range: topology.Range{First: r[0], Last: r[1]}, Group: t.Groups[r[2]].ID})
		}
	}
	return t
}

// packer packs several values with one compressor, whose tables are a megabyte. The zero value is ready.
type packer struct{ w *flate.Writer }

func (p *packer) pack(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", topology.ErrInvalid, err)
	}
	var out bytes.Buffer
	if p.w == nil {
		p.w, _ = flate.NewWriter(&out, flate.DefaultCompression) // a level that there is
	} else {
		p.w.Reset(&out)
	}
	_, err = p.w.Write(text)
	err = errors.Join(err, p.w.Close())
	return out.Bytes(), err
}

func unpack(value []byte, v any) error {
	r := flate.NewReader(bytes.NewReader(value))
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(value []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(value, castagnoli)) }
