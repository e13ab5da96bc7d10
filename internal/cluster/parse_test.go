package cluster

import (
	"reflect"
	"testing"
)

// What the fast way reads it reads as the general way does, and it reads nothing that the general way refuses.
func FuzzPlain(f *testing.F) {
	for _, text := range []string{
		`{"conn_url":"postgres://10.0.0.1:5432/postgres","state":"running","tags":{"a":true},"xlog_location":16777256,"timeline":1}`,
		` [ 1 , -0 , 0.5 , 1e5 , 1E+5 , 1.5e-3 , true , false , null , "x" , [ ] , { } ] `, `[01]`, `[1.]`, `[-]`, `[1e]`, `{"a":1,"a":2}`, `{"a":1,}`, `[1,]`, `{"é":1}`,
		`"\n"`, `"` + "\n" + `"`, `nul`, `1 2`, `{`, `[`, `"`, ``, ` `, `{"a"}`, `{"a":}`, `{1:2}`, `[1 2]`, "[\"\x7f\"]", "[\"\xff\"]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		have, ok := parsePlain(text)
		if !ok {
			return
		}
		want, err := parseAny(text)
		if err != nil {
			t.Fatalf("%q: read %v, want %v", text, have, err)
		}
		if !reflect.DeepEqual(normal(have), normal(want)) {
			t.Errorf("%q: have %#v, want %#v", text, have, want)
		}
	})
}

// normal makes empty lists nil, wherever they are.
func normal(v Value) Value {
	if len(v.Fields) == 0 {
		v.Fields = nil
	}
	for i := range v.Fields {
		v.Fields[i].Value = normal(v.Fields[i].Value)
	}
	if len(v.Items) == 0 {
		v.Items = nil
	}
	for i := range v.Items {
		v.Items[i] = normal(v.Items[i])
	}
	return v
}

func BenchmarkParseMember(b *testing.B) {
	text := []byte(`{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","state":"running","role":"replica","version":"4.1.4","xlog_location":16777256,"replay_lsn":16777256,"receive_lsn":16777256,"replication_state":"streaming","timeline":1}`)
	for b.Loop() {
		if _, err := ParseValue(text); err != nil {
			b.Fatal(err)
		}
	}
}
