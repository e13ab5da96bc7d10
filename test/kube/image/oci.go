package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
)

// Image is what an archive holds. The name must be a full one (localhost/x:1): the kubelet completes a short one, and does not
// find what was imported without a host.
type Image struct {
	Name       string
	Layers     []string // files, uncompressed, the lowest first
	Env        []string
	Entrypoint []string
	Cmd        []string
	User       string
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write packs an image into an archive for "ctr images import".
func Write(file string, i Image) error {
	out, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer out.Close()
	a := archive{tar: tar.NewWriter(out)}
	var layers []descriptor
	var diffs []string
	for _, l := range i.Layers {
		d, err := a.layer(l)
		if err != nil {
			return fmt.Errorf("pack layer %s: %w", l, err)
		}
		layers, diffs = append(layers, d), append(diffs, d.Digest)
	}
	config := a.document("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": map[string]any{"Env": i.Env, "Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "User": i.User},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	manifest := a.document("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	})
	manifest.Annotations = map[string]string{"io.containerd.image.name": i.Name}
	a.json("index.json", map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	a.json("oci-layout", map[string]any{"imageLayoutVersion": "1.0.0"})
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return a.err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// archive keeps the first error of writing.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) put(name string, size int64, content io.Reader) {
	if a.err == nil {
		a.err = a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: epoch})
	}
	if a.err == nil {
		_, a.err = io.Copy(a.tar, content)
	}
}

func (a *archive) layer(file string) (descriptor, error) {
	f, err := os.Open(file)
	if err != nil {
		return descriptor{}, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return descriptor{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return descriptor{}, err
	}
	hex := fmt.Sprintf("%x", sum.Sum(nil))
	a.put("blobs/sha256/"+hex, size, f)
	return descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: "sha256:" + hex, Size: size}, a.err
}

func (a *archive) json(name string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil && a.err == nil {
		a.err = err
	}
	if name != "" {
		a.put(name, int64(len(b)), bytes.NewReader(b))
	}
	return b
}

func (a *archive) document(kind string, v any) descriptor {
	b := a.json("", v)
	hex := fmt.Sprintf("%x", sha256.Sum256(b))
	a.put("blobs/sha256/"+hex, int64(len(b)), bytes.NewReader(b))
	return descriptor{MediaType: kind, Digest: "sha256:" + hex, Size: int64(len(b))}
}
