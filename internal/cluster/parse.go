package cluster

// parsePlain reads what nearly every key holds, an order of magnitude faster than the general way: JSON whose strings are
// printable ASCII without escapes. ok is false for anything else, also for what is no JSON: the general way then says what
// is wrong with it. A member that reads a busy cluster does little else than this.
func parsePlain(text []byte) (v Value, ok bool) {
	p := plain{text: string(text)} // one copy, which all values share
	p.blank()
	v, ok = p.value(0)
	p.blank()
	return v, ok && p.at == len(p.text)
}

type plain struct {
	text string
	at   int
}

func (p *plain) blank() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\n' || p.text[p.at] == '\r' || p.text[p.at] == '\t') {
		p.at++
	}
}

// take goes past c, and says whether it was there.
func (p *plain) take(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *plain) word(w string) bool {
	if len(p.text)-p.at < len(w) || p.text[p.at:p.at+len(w)] != w {
		return false
	}
	p.at += len(w)
	return true
}

func (p *plain) value(depth int) (Value, bool) {
	if p.at >= len(p.text) || depth > maxDepth {
		return Value{}, false
	}
	switch c := p.text[p.at]; {
	case c == '"':
		s, ok := p.str()
		return Text(s), ok
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '-' || c >= '0' && c <= '9':
		begin := p.at
		ok := p.number()
		return Value{Kind: Number, Text: p.text[begin:p.at]}, ok
	case c == 't':
		return Value{Kind: Bool, Text: "true"}, p.word("true")
	case c == 'f':
		return Value{Kind: Bool, Text: "false"}, p.word("false")
	default:
		return Value{}, p.word("null")
	}
}

func (p *plain) str() (string, bool) {
	if !p.take('"') {
		return "", false
	}
	begin := p.at
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[begin : p.at-1], true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

func (p *plain) digits() bool {
	begin := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at > begin
}

// number goes past a number as RFC 8259 writes it.
func (p *plain) number() bool {
	p.take('-')
	if !p.take('0') && !p.digits() {
		return false
	}
	if p.take('.') && !p.digits() {
		return false
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		return p.digits()
	}
	return true
}

func (p *plain) array(depth int) (Value, bool) {
	v := Value{Kind: Array}
	p.take('[')
	p.blank()
	if p.take(']') {
		return v, true
	}
	for {
		p.blank()
		item, ok := p.value(depth + 1)
		if !ok {
			return v, false
		}
		v.Items = append(v.Items, item)
		p.blank()
		if p.take(']') {
			return v, true
		}
		if !p.take(',') {
			return v, false
		}
	}
}

func (p *plain) object(depth int) (Value, bool) {
	v := Value{Kind: Object}
	p.take('{')
	p.blank()
	if p.take('}') {
		return v, true
	}
	v.Fields = make([]Field, 0, 8)
	for {
		p.blank()
		name, ok := p.str()
		if !ok || len(v.Fields) >= 64 || v.index(name) >= 0 { // names that come twice are the general way's
			return v, false
		}
		p.blank()
		if !p.take(':') {
			return v, false
		}
		p.blank()
		item, ok := p.value(depth + 1)
		if !ok {
			return v, false
		}
		v.Fields = append(v.Fields, Field{name, item})
		p.blank()
		if p.take('}') {
			return v, true
		}
		if !p.take(',') {
			return v, false
		}
	}
}
