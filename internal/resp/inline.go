package resp

// splitInline is sdssplitargs of Redis: words, "quoted with \n \r \t \b \a \xHH" and
// 'quoted with \”. The arguments are unescaped into the scanner's own memory. False for
// unbalanced quotes.
func (s *RequestScanner) splitInline(line []byte) bool {
	s.scratch = s.scratch[:0]
	s.spans = s.spans[:0]
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			break
		}
		from := len(s.scratch)
		next, ok := s.word(line, i)
		if !ok {
			return false
		}
		i = next
		s.spans = append(s.spans, span{from, len(s.scratch)})
	}
	for _, a := range s.spans {
		s.args = append(s.args, s.scratch[a.from:a.to:a.to])
	}
	return true
}

// word unescapes the argument that begins at line[i] and says where it ends.
func (s *RequestScanner) word(line []byte, i int) (next int, ok bool) {
	quote := byte(0)
	for ; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '"' && c == '\\' && i+3 < len(line) && line[i+1] == 'x' && isHex(line[i+2]) && isHex(line[i+3]):
			s.scratch = append(s.scratch, unhex(line[i+2])<<4|unhex(line[i+3]))
			i += 3
		case quote == '"' && c == '\\' && i+1 < len(line):
			s.scratch = append(s.scratch, unescape(line[i+1]))
			i++
		case quote == '\'' && c == '\\' && i+1 < len(line) && line[i+1] == '\'':
			s.scratch = append(s.scratch, '\'')
			i++
		case quote != 0 && c == quote:
			// A closing quote must be followed by a space or nothing at all.
			return i + 1, i+1 == len(line) || isSpace(line[i+1])
		case quote == 0 && isSpace(c):
			return i, true
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		default:
			s.scratch = append(s.scratch, c)
		}
	}
	return i, quote == 0
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}
