// Package image packs container images by hand: layers from folders of entries and from Debian packages, and an archive in
// the OCI layout that containerd imports. No registry, no daemon, no root.
//
// Sources: OCI Image Format Specification 1.1; deb(5).
package image

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"
)

// Entry is one file, folder or link of a layer.
type Entry struct {
	Path     string // without a leading slash
	Mode     int64
	UID, GID int
	Link     string // target, for a symbolic link
	Text     string // content
	From     string // or the file that holds it
	Folder   bool
}

func File(path, from string, mode int64) Entry { return Entry{Path: path, From: from, Mode: mode} }
func Text(path, text string) Entry             { return Entry{Path: path, Text: text, Mode: 0o644} }
func Link(path, target string) Entry           { return Entry{Path: path, Link: target, Mode: 0o777} }
func Folder(path string, mode int64, uid int) Entry {
	return Entry{Path: path, Mode: mode, UID: uid, GID: uid, Folder: true}
}

// layer writes a tar in which every path stands once and every folder before what is in it. The same entries give the same
// bytes: a digest of the layer then says what is in it.
type layer struct {
	tar     *tar.Writer
	written map[string]bool
}

// epoch is the time of every file.
var epoch = time.Unix(0, 0)

// WriteLayer writes the entries to a file, uncompressed.
func WriteLayer(file string, entries []Entry) error {
	return writeLayer(file, func(l *layer) error {
		for _, e := range entries {
			if err := l.add(e); err != nil {
				return fmt.Errorf("pack %s: %w", e.Path, err)
			}
		}
		return nil
	})
}

func writeLayer(file string, fill func(*layer) error) error {
	out, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer out.Close()
	l := &layer{tar: tar.NewWriter(out), written: map[string]bool{}}
	if err := fill(l); err != nil {
		return err
	}
	if err := l.tar.Close(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (l *layer) add(e Entry) error {
	h := &tar.Header{Name: e.Path, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Typeflag: tar.TypeReg}
	var content io.Reader
	switch {
	case e.Folder:
		h.Typeflag = tar.TypeDir
	case e.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case e.From != "":
		f, err := os.Open(e.From)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		h.Size, content = info.Size(), f
	default:
		h.Size, content = int64(len(e.Text)), strings.NewReader(e.Text)
	}
	return l.put(h, content)
}

// put writes one member, once, after the folders above it.
func (l *layer) put(h *tar.Header, content io.Reader) error {
	name := strings.Trim(path.Clean(h.Name), "/")
	if name == "." || l.written[name] {
		return nil
	}
	if parent := path.Dir(name); parent != "." && !l.written[parent] {
		if err := l.put(&tar.Header{Name: parent, Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
			return err
		}
	}
	l.written[name] = true
	out := &tar.Header{
		Name: name, Typeflag: h.Typeflag, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: epoch, Format: tar.FormatPAX,
	}
	if h.Typeflag == tar.TypeDir {
		out.Name += "/"
	}
	if err := l.tar.WriteHeader(out); err != nil {
		return err
	}
	if content == nil || h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.Copy(l.tar, content)
	return err
}
