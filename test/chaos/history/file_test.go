package history

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	r, err := NewRecorder(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Note(Event{Run: &Run{Seed: 7, Members: []string{"m1"}}})
	r.Note(Event{Row: &Row{ID: 1, Member: "m1", Outcome: Done, Timeline: 1, LSN: 1 << 40, Sent: 1, Ended: 2}})
	r.Flush()
	cut, err := ReadFile(path)
	if err != nil || cut.End != nil || len(cut.Rows) != 1 || cut.Rows[0].LSN != 1<<40 {
		t.Errorf("have %+v, %v of a file that is being written, want its run and its row", cut, err)
	}
	r.Note(Event{End: &End{Leader: "m1", Members: map[string]Copy{"m1": {Rows: [][2]int64{{1, 1}}}}}})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	have, err := ReadFile(path)
	if want := r.Seen(); err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("have %+v, %v, want %+v", have, err, want)
	}
	if err := os.WriteFile(path, []byte("no history"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil {
		t.Error("have no error for a file that is no history")
	}
}
