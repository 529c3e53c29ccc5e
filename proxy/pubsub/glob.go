package pubsub

// Match reports whether a name matches a pattern of PSUBSCRIBE, KEYS or CONFIG GET: '*', '?',
// '[a-z]', '[^…]' and '\' as in Redis's stringmatchlen (util.c). It is iterative, so that
// a pattern of many stars takes no more than the product of the lengths.
func Match(pattern, name string) bool {
	p, n := 0, 0
	star, mark := -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if next, ok := matchOne(pattern, p, name[n]); ok {
				p = next
				n++
				continue
			}
		}
		if star < 0 {
			return false
		}
		p = star + 1
		mark++
		n = mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one byte against what stands at p; next is behind that.
func matchOne(pattern string, p int, c byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchClass(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == c
}

func matchClass(pattern string, p int, c byte) (next int, ok bool) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	match := false
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			match = match || pattern[p] == c
		case p+2 < len(pattern) && pattern[p+1] == '-':
			lo, hi := pattern[p], pattern[p+2]
			match = match || min(lo, hi) <= c && c <= max(lo, hi)
			p += 2
		default:
			match = match || pattern[p] == c
		}
	}
	return min(p+1, len(pattern)), match != not
}
