package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchive follows the digests from the index to the layer, as containerd does.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	layer, file := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "image.tar")
	if err := WriteLayer(layer, []Entry{Text("a", "b")}); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, Image{Name: "localhost/x:1", Layers: []string{layer}, Entrypoint: []string{"/a"}, User: "999:999"}); err != nil {
		t.Fatal(err)
	}
	blobs := read(t, file)
	for name, content := range blobs {
		if hex, is := strings.CutPrefix(name, "blobs/sha256/"); is && fmt.Sprintf("%x", sha256.Sum256(content)) != hex {
			t.Errorf("%s has another digest", name)
		}
	}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, blobs["index.json"], &index)
	decode(t, blobs[blob(index.Manifests[0])], &manifest)
	decode(t, blobs[blob(manifest.Config)], &config)
	want, err := os.ReadFile(layer)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case index.Manifests[0].Annotations["io.containerd.image.name"] != "localhost/x:1":
		t.Errorf("have name %v", index.Manifests[0].Annotations)
	case string(blobs[blob(manifest.Layers[0])]) != string(want), config.Rootfs.DiffIDs[0] != manifest.Layers[0].Digest:
		t.Error("the manifest does not lead to the layer")
	case config.Config.User != "999:999", len(config.Config.Entrypoint) != 1:
		t.Errorf("have %+v", config)
	}
}

func blob(d descriptor) string { return strings.Replace(d.Digest, "sha256:", "blobs/sha256/", 1) }

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
