package machine

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/regent-ha/regent/test/kube/image"
)

// ImageName is the image of Regent in the node.
const ImageName = "localhost/regent:test"

// Image builds Regent and packs it with PostgreSQL as deploy/Containerfile does, from Debian's packages.
func (m Machine) Image(file string, log io.Writer) error {
	if err := os.MkdirAll(m.Cache, 0o755); err != nil {
		return err
	}
	binary := os.Getenv("REGENT_TEST_AGENT") // a program that was built already
	if binary == "" {
		binary = filepath.Join(m.Cache, "regent")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/regent")
		cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(m.Source, "../.."), log, log
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build regent: %w", err)
		}
	}
	system, postgres, err := image.Debian(m.Cache, log)
	if err != nil {
		return err
	}
	program := filepath.Join(m.Cache, "regent-layer.tar")
	err = image.WriteLayer(program, []image.Entry{
		image.File("usr/local/bin/regent", binary, 0o755),
		image.Link("usr/local/bin/patroni", "regent"), image.Link("usr/local/bin/patronictl", "regent"),
	})
	if err != nil {
		return err
	}
	return image.Write(file, image.Image{
		Name: ImageName, Layers: []string{system, program},
		Env: []string{
			"PATH=/usr/local/bin:/usr/lib/postgresql/" + postgres + "/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
			"PATRONI_POSTGRESQL_BIN_DIR=/usr/lib/postgresql/" + postgres + "/bin", "PATRONI_POSTGRESQL_DATA_DIR=/var/lib/postgresql/data",
		},
		Entrypoint: []string{"patroni"}, User: "999:999",
	})
}
