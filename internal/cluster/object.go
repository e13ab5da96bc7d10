package cluster

// object collects the fields of a JSON object that is written in a given order.
type object []Field

func (o *object) add(name string, v Value) { *o = append(*o, Field{name, v}) }

func (o *object) addText(name, s string) {
	if s != "" {
		o.add(name, Text(s))
	}
}

func (o *object) addLSN(name string, l LSN) {
	if l != 0 {
		o.add(name, l.value())
	}
}

func (o object) value() Value { return Value{Kind: Object, Fields: o} }

// texts makes an array of strings.
func texts(list []string) Value {
	v := Value{Kind: Array}
	for _, s := range list {
		v.Items = append(v.Items, Text(s))
	}
	return v
}
