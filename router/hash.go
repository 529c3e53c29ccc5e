package router

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// Scheme is how keys map to slots; fixed when a cluster is created.
type Scheme uint8

const (
	Redis Scheme = iota // CRC16 mod 16384 with Redis Cluster's hash tags
	Codis               // CRC32 mod 1024 with Codis's hash tags
)

// ParseScheme reads a scheme's name, "redis" or "codis". The error for any other
// names it.
func ParseScheme(name string) (Scheme, error) {
	switch name {
	case "redis":
		return Redis, nil
	case "codis":
		return Codis, nil
	}
	return 0, fmt.Errorf("unknown slot scheme %q: want redis or codis", name)
}

// String is the name that ParseScheme reads.
func (s Scheme) String() string {
	if s == Codis {
		return "codis"
	}
	return "redis"
}

// Slots is the number of slots: 16384 or 1024.
func (s Scheme) Slots() int {
	if s == Codis {
		return 1024
	}
	return 16384
}

// Slot is the slot of a key, 0 ≤ slot < Slots. Keys are opaque bytes; of one with
// a hash tag only the tag counts, so that keys with the same tag stay together.
func (s Scheme) Slot(key []byte) int {
	if s == Codis {
		return int(crc32.ChecksumIEEE(codisTag(key)) % 1024)
	}
	return int(crc16(redisTag(key)) & 16383)
}

// PatternSlot is the slot of every key that a pattern with one "*" can stand for, whatever
// takes the place of the "*"; -1 if they can be in several, which is so unless a whole hash
// tag comes before it.
func (s Scheme) PatternSlot(pattern []byte) int {
	before, _, _ := bytes.Cut(pattern, []byte{'*'})
	open := bytes.IndexByte(before, '{')
	if open < 0 {
		return -1
	}
	n := bytes.IndexByte(before[open+1:], '}')
	if n < 0 || n == 0 && s == Redis {
		return -1
	}
	return s.Slot(before)
}

// redisTag is the part of a key that is hashed: between the first '{' and the first '}'
// behind it, if that is not empty (Redis Cluster specification, "Hash tags").
func redisTag(key []byte) []byte {
	open := bytes.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	if n := bytes.IndexByte(key[open+1:], '}'); n > 0 {
		return key[open+1 : open+1+n]
	}
	return key
}

// codisTag differs from redisTag in that an empty tag counts (Codis, pkg/proxy/mapper.go).
func codisTag(key []byte) []byte {
	open := bytes.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	if n := bytes.IndexByte(key[open+1:], '}'); n >= 0 {
		return key[open+1 : open+1+n]
	}
	return key
}

// crc16 is CRC-16/XMODEM: polynomial 0x1021, initial value 0, not reflected. It
// takes eight bytes a turn ("slicing by 8"): byte by byte each look-up waits for
// the one before, which takes twice as long already for a key of 16 bytes.
func crc16(b []byte) uint16 {
	crc := uint16(0)
	for t := &crc16Tables; len(b) >= 8; b = b[8:] {
		crc = t[7][b[0]^byte(crc>>8)] ^ t[6][b[1]^byte(crc)] ^ t[5][b[2]] ^ t[4][b[3]] ^
			t[3][b[4]] ^ t[2][b[5]] ^ t[1][b[6]] ^ t[0][b[7]]
	}
	for _, c := range b {
		crc = crc<<8 ^ crc16Tables[0][byte(crc>>8)^c]
	}
	return crc
}

// crc16Tables[k][b] is the CRC of the byte b and k zero bytes after it. 4 KB.
var crc16Tables = func() (t [8][256]uint16) {
	for i := range t[0] {
		c := uint16(i) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
		t[0][i] = c
	}
	for k := 1; k < len(t); k++ { // t[0] is complete by now
		for i, c := range t[k-1] {
			t[k][i] = c<<8 ^ t[0][c>>8]
		}
	}
	return t
}()
