package schema

import (
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestCheck(t *testing.T) {
	var set Set
	err := yaml.Unmarshal([]byte(`
pet:
  type: object
  required: [name]
  additionalProperties: false
  properties:
    name: {type: string}
    legs: {type: [integer, "null"]}
    kind: {enum: [cat, dog]}
    friends: {type: array, items: {$ref: "#/components/schemas/pet"}}
odd: {minLength: 3}
`), &set)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		`{"name":"a","legs":4,"kind":"cat","friends":[{"name":"b"}]}`: nil,
		`{"name":"a","legs":null}`:                                    nil,
		`{"name":1}`:                                                  {".name: have 1, want string"},
		`{"name":"a","legs":4.5}`:                                     {".legs: have 4.5, want [integer null]"},
		`{"legs":4}`:                                                  {": name is missing"},
		`{"name":"a","x":1}`:                                          {": x is not documented"},
		`{"name":"a","kind":"bird"}`:                                  {".kind: have bird, want one of [cat dog]"},
		`{"name":"a","friends":[{}]}`:                                 {".friends[0]: name is missing"},
		`[]`:                                                          {": have [], want object"},
		`{`:                                                           {"unexpected end of JSON input"},
	} {
		if have := set.CheckText(set["pet"], []byte(text)); !slices.Equal(have, want) {
			t.Errorf("%s: have %q, want %q", text, have, want)
		}
	}
	if have := set.Check("odd", "x"); !slices.Equal(have, []string{"odd: the schema's word minLength is not known here"}) {
		t.Errorf("an unknown word: have %q", have)
	}
	if have := set.Check("none", "x"); len(have) != 1 {
		t.Errorf("an unknown schema: have %q", have)
	}
}
