package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/mesh"
)

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	keyFile := filepath.Join(t.TempDir(), "etc", "mesh.key")
	res, err := Init(InitConfig{DataDir: dir, KeyFile: keyFile, Name: "box1"})
	if err != nil {
		t.Fatal(err)
	}
	if !validID(res.MeshID) || !validID(res.NodeID) || res.MeshID == res.NodeID || !res.KeyMade || res.KeyFile != keyFile {
		t.Errorf("got %+v", res)
	}
	key, err := mesh.LoadKeyFile(keyFile) // refuses a file that others may read
	if err != nil || key.IsZero() {
		t.Errorf("key: %v", err)
	}
	c, err := inspectDataDir(dir)
	if err != nil || c.Format != dataFormat || c.NodeID != res.NodeID || c.Mesh.ID != res.MeshID || !c.Mesh.Founder || c.Mesh.Name != "box1" || c.Mesh.Created.IsZero() {
		t.Errorf("directory holds %+v, %v", c, err)
	}

	if _, err := Init(InitConfig{DataDir: dir, KeyFile: keyFile}); !errors.Is(err, ErrHasMesh) || !strings.Contains(err.Error(), res.MeshID) {
		t.Errorf("a second time: %v, want ErrHasMesh with the mesh's id", err)
	}
	other, err := Init(InitConfig{DataDir: filepath.Join(t.TempDir(), "other"), KeyFile: keyFile})
	if err != nil || other.KeyMade || other.MeshID == res.MeshID {
		t.Errorf("another mesh with a key that is there: %+v, %v", other, err)
	}
	if again, err := mesh.LoadKeyFile(keyFile); err != nil || again != key {
		t.Errorf("the key file was changed: %v", err)
	}
}

func TestInitRefuses(t *testing.T) {
	bad := writeText(t, filepath.Join(t.TempDir(), "key"), "nonsense\n")
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Init(InitConfig{DataDir: dir, KeyFile: bad}); !errors.Is(err, mesh.ErrBadKey) {
		t.Errorf("a bad key: %v", err)
	}
	if c, err := inspectDataDir(dir); err != nil || c.Mesh.ID != "" {
		t.Errorf("a mesh was founded without a key: %+v, %v", c, err)
	}
	if _, err := Init(InitConfig{}); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("no directory: %v", err)
	}
}

func TestDataDirLock(t *testing.T) {
	dir := t.TempDir()
	d, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openDataDir(dir)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("got %v, want ErrInUse with the owner's pid and the remedy", err)
	}
	id := d.nodeID
	d.close()
	d, err = openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if d.nodeID != id {
		t.Errorf("node id %s, then %s: it must be permanent", id, d.nodeID)
	}
}

func TestDataDirRefuses(t *testing.T) {
	good := strings.Repeat("ab", 16)
	record, _ := json.Marshal(MeshRecord{ID: good})
	for _, c := range []struct {
		name  string
		files map[string]string
		is    error
		want  string
	}{
		{"newer", map[string]string{formatName: "2\n"}, ErrNewerFormat, "install the newer hostmesh again"},
		{"not ours", map[string]string{formatName: "ext4\n"}, nil, "no data directory"},
		{"node id cut short", map[string]string{formatName: "1\n", nodeIDName: "abc\n"}, nil, "damaged"},
		{"mesh cut short", map[string]string{formatName: "1\n", meshName: string(record[:10])}, nil, "damaged"},
		{"mesh without id", map[string]string{formatName: "1\n", meshName: "{}"}, nil, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.files {
				writeText(t, filepath.Join(dir, name), text)
			}
			_, err := openDataDir(dir)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
			if _, err := Init(InitConfig{DataDir: dir}); err == nil {
				t.Error("Init takes it")
			}
		})
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := writeFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
		t.Errorf("leftovers: %v", list)
	}
	if err := writeFile(filepath.Join(path, "below"), nil, 0o600); err == nil {
		t.Error("no error below a file")
	}
}

func TestFreeSpace(t *testing.T) {
	free, floor, err := freeSpace(t.TempDir())
	if err != nil || free <= 0 || floor < minFree {
		t.Errorf("%d free, %d needed, %v", free, floor, err)
	}
	if err := checkSpace(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error for a directory that is not there")
	}
}
