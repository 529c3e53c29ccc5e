package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// bbolt reads its file as memory, and trusts every number in it: one that points outside the file ends the
// process, and one that points back at its own page ends nothing, in a goroutine where nobody can
// stop it. So before bbolt is let near a file, its pages are walked here, as bytes, by the rules
// of its format (go.etcd.io/bbolt/internal/common).
const (
	pageHeader  = 16 // id, flags, count, overflow
	element     = 16 // of a branch: pos, ksize, page; of a leaf: flags, pos, ksize, vsize
	bucketHead  = 16 // root page, sequence
	branchPage  = 0x01
	leafPage    = 0x02
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSummed  = 56 // bytes of a head that its checksum is over
)

// pages are those of one file.
type pages struct {
	file []byte
	size uint64 // of a page
	end  uint64 // the first page number that is not in use
	seen map[uint64]bool
}

// walkPages reports what bbolt could not survive. A file without a valid head is left to bbolt, which says so.
func walkPages(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil // opening it will tell
	}
	p, root := newPages(b)
	if p == nil {
		return nil
	}
	_, err = p.walk(root, nil, nil)
	return err
}

// newPages goes by the newest valid head, as bbolt does; nil if there is none.
func newPages(b []byte) (p *pages, root uint64) {
	newest := uint64(0)
	for _, size := range []uint64{0, 1024, 2048, 4096, 8192, 16384, 32768, 65536} { // the second head is on the second page
		if size+pageHeader+metaSummed+8 > uint64(len(b)) {
			break
		}
		m := b[size+pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:metaSummed])
		pageSize := uint64(binary.LittleEndian.Uint32(m[8:]))
		if binary.LittleEndian.Uint32(m) != metaMagic || binary.LittleEndian.Uint32(m[4:]) != metaVersion || sum.Sum64() != binary.LittleEndian.Uint64(m[metaSummed:]) ||
			pageSize < 1024 || size != 0 && size != pageSize {
			continue
		}
		if tx := binary.LittleEndian.Uint64(m[48:]); p == nil || tx > newest {
			newest, root = tx, binary.LittleEndian.Uint64(m[16:])
			p = &pages{file: b, size: pageSize, end: binary.LittleEndian.Uint64(m[40:]), seen: make(map[uint64]bool)}
		}
	}
	return p, root
}

func damaged(page uint64, what string) error {
	return fmt.Errorf("%w: page %d %s", errDamaged, page, what)
}

// walk checks a page and those below it, whose keys are in order, from least on and below limit (nil: any).
// It returns the last key.
func (p *pages) walk(id uint64, least, limit []byte) ([]byte, error) {
	last := uint64(len(p.file)) / p.size // the first page that is not in the file
	if id < 2 || id >= p.end || id >= last {
		return nil, damaged(id, "is not in the file")
	}
	page := p.file[id*p.size:]
	overflow := uint64(binary.LittleEndian.Uint32(page[12:]))
	if binary.LittleEndian.Uint64(page) != id || id+overflow >= p.end || id+overflow >= last {
		return nil, damaged(id, "is not what it should be")
	}
	for n := id; n <= id+overflow; n++ {
		if p.seen[n] {
			return nil, damaged(n, "is there twice")
		}
		p.seen[n] = true
	}
	return p.elements(id, page[:(overflow+1)*p.size], least, limit)
}

// elements checks what is on a page, or in the place of one, for a small bucket.
func (p *pages) elements(id uint64, page, least, limit []byte) (last []byte, err error) {
	flags, count := binary.LittleEndian.Uint16(page[8:]), uint64(binary.LittleEndian.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 {
		return nil, damaged(id, "is of no known kind")
	}
	if pageHeader+count*element > uint64(len(page)) {
		return nil, damaged(id, "has more elements than room")
	}
	last = least
	for i := range count {
		key, err := keyAt(id, page, flags, i)
		if err != nil {
			return nil, err
		}
		order := bytes.Compare(key, last)
		if last != nil && (order < 0 || order == 0 && i > 0) || limit != nil && bytes.Compare(key, limit) >= 0 {
			return nil, damaged(id, "has its keys out of order")
		}
		if flags == branchPage {
			last, err = p.branch(id, page, i, count, key, limit)
		} else {
			last, err = key, p.leaf(id, page, i)
		}
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

// keyAt is the key of an element, which is inside the page with all of the element.
func keyAt(id uint64, page []byte, flags uint16, i uint64) ([]byte, error) {
	at := pageHeader + i*element
	e := page[at:]
	pos, key, value := uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:])), uint64(0)
	if flags == leafPage {
		pos, key, value = key, uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
	}
	if at+pos+key+value > uint64(len(page)) {
		return nil, damaged(id, "has something outside")
	}
	return page[at+pos:][:key], nil
}

// branch walks the page below an element, whose keys end before the next element's.
func (p *pages) branch(id uint64, page []byte, i, count uint64, key, limit []byte) (last []byte, err error) {
	if i+1 < count {
		if limit, err = keyAt(id, page, branchPage, i+1); err != nil {
			return nil, err
		}
	}
	return p.walk(binary.LittleEndian.Uint64(page[pageHeader+i*element+8:]), key, limit)
}

// leaf walks the bucket that an element may be.
func (p *pages) leaf(id uint64, page []byte, i uint64) (err error) {
	at := pageHeader + i*element
	e := page[at:]
	if binary.LittleEndian.Uint32(e)&1 == 0 {
		return nil
	}
	from := at + uint64(binary.LittleEndian.Uint32(e[4:])) + uint64(binary.LittleEndian.Uint32(e[8:]))
	bucket := page[from:][:binary.LittleEndian.Uint32(e[12:])]
	if len(bucket) < bucketHead {
		return damaged(id, "has a bucket that is none")
	}
	if root := binary.LittleEndian.Uint64(bucket); root != 0 {
		_, err = p.walk(root, nil, nil)
		return err
	}
	if len(bucket) < bucketHead+pageHeader || binary.LittleEndian.Uint16(bucket[bucketHead+8:]) != leafPage {
		return damaged(id, "has a small bucket without a page")
	}
	_, err = p.elements(id, bucket[bucketHead:], nil, nil)
	return err
}
