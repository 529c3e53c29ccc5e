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

// ParseScheme reads a scheme's name.
func ParseScheme(name string) (Scheme, error) {
	switch name {
	case "redis":
		return Redis, nil
	case "codis":
		return Codis, nil
	}
	return 0, fmt.Errorf("unknown slot scheme %q: want redis or codis", name)
}

func (s Scheme) String() string {
	if s == Codis {
		return "codis"
	}
	return "redis"
}

// Slots is the number of slots.
func (s Scheme) Slots() int {
	if s == Codis {
		return 1024
	}
	return 16384
}

// Slot is the slot of a key: 0 ≤ slot < Slots.
func (s Scheme) Slot(key []byte) int {
	if s == Codis {
		return int(crc32.ChecksumIEEE(codisTag(key)) % 1024)
	}
	return int(crc16(redisTag(key)) & 16383)
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

// crc16 is CRC-16/XMODEM: polynomial 0x1021, initial value 0, not reflected.
func crc16(b []byte) uint16 {
	crc := uint16(0)
	for _, c := range b {
		crc = crc<<8 ^ crc16Table[byte(crc>>8)^c]
	}
	return crc
}

var crc16Table = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()
