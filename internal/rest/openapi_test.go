package rest

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/regent-ha/regent/internal/schema"
)

// contract is docs/reference/openapi.yaml, as far as it is checked.
type contract struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Ref string `yaml:"$ref"`
		}
	}
	Components struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema schema.Schema }
		}
		Schemas schema.Set
	}
}

var openAPI = sync.OnceValues(func() (c contract, err error) {
	text, err := os.ReadFile("../../docs/reference/openapi.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	return c, err
})

// Every request of every test of this package that goes through ask or send is held against the document.
func checkContract(t testing.TB, method, address string, code int, header http.Header, body string) {
	t.Helper()
	c, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	path := u.Path
	if path == "" {
		path = "/"
	} else if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	reading := method == http.MethodHead || method == http.MethodOptions
	if reading {
		method = http.MethodGet
	}
	operation, ok := c.Paths[path][strings.ToLower(method)]
	if !ok {
		if code != http.StatusNotFound && code != http.StatusNotImplemented {
			t.Errorf("%s %s answers %d and is not in the document", method, path, code)
		}
		return
	}
	if code == http.StatusRequestHeaderFieldsTooLarge {
		return
	}
	response, ok := operation.Responses[strconv.Itoa(code)]
	if !ok {
		t.Errorf("%s %s: the document does not know the answer %d", method, path, code)
		return
	}
	name := response.Ref[strings.LastIndex(response.Ref, "/")+1:]
	content, ok := c.Components.Responses[name].Content[header.Get("Content-Type")]
	if !ok {
		t.Errorf("%s %s, %d: have %s, want %v", method, path, code, header.Get("Content-Type"), slices.Collect(maps.Keys(c.Components.Responses[name].Content)))
		return
	}
	if header.Get("Content-Type") == "application/json" && !reading {
		for _, problem := range c.Components.Schemas.CheckText(content.Schema, []byte(body)) {
			t.Errorf("%s %s, %d: %s", method, path, code, problem)
		}
	}
}

func TestOpenAPIListsWhatIsServed(t *testing.T) {
	c, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for path, operations := range c.Paths {
		for method := range operations {
			have = append(have, strings.ToUpper(method)+" "+path)
		}
	}
	for path := range checks {
		want = append(want, "GET "+path)
	}
	for path := range documents {
		want = append(want, "GET "+path)
	}
	want = slices.AppendSeq(want, maps.Keys(actions))
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("the document has %q\nthe server %q", have, want)
	}
}
