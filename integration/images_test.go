package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// keepsImages gives a box a directory for images.
func (b *box) keepsImages() {
	b.settings = append(b.settings, "vm: {local_urls: true, dir: "+b.imageDir()+"}")
}

func (b *box) imageDir() string { return b.dir + "-vm" }

// says runs the command line, which must succeed and print all of these.
func (b *box) says(words []string, args ...string) {
	b.site.t.Helper()
	out, errs, code := b.hostmesh(args...)
	if code != 0 {
		b.site.t.Fatalf("%s: hostmesh %q: exit code %d\n%s%s", b.name, args, code, out, errs)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			b.site.t.Errorf("%s: hostmesh %q does not say %q:\n%s", b.name, args, w, out)
		}
	}
}

// refuses runs the command line, which must fail for all these reasons.
func (b *box) refuses(words []string, args ...string) {
	b.site.t.Helper()
	out, errs, code := b.hostmesh(args...)
	if code == 0 {
		b.site.t.Fatalf("%s: hostmesh %q is not refused:\n%s", b.name, args, out)
	}
	for _, w := range words {
		if !strings.Contains(out+errs, w) {
			b.site.t.Errorf("%s: hostmesh %q is refused without %q:\n%s%s", b.name, args, w, out, errs)
		}
	}
}

// hasFile checks that a file of an image is on this box, as the emulator finds it.
func (b *box) hasFile(content []byte) {
	b.site.t.Helper()
	sum := sha256.Sum256(content)
	path := filepath.Join(b.imageDir(), "images", hex.EncodeToString(sum[:]))
	got, err := os.ReadFile(path)
	if err != nil {
		b.site.t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		b.site.t.Fatalf("%s has other bytes in %s", b.name, path)
	}
}

// TestImages: an image that is added at one agent is fetched by others from it, with all that can be refused on the way.
func TestImages(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	one, two, bare := s.boxes[0], s.boxes[1], s.boxes[2]
	one.keepsImages()
	two.keepsImages()
	s.start()

	file := func(name string) string { return filepath.Join(s.dir, name) }
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = s.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	raw := make([]byte, 9<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(raw)
	if err := os.WriteFile(file("disk.raw"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2")
	run("qemu-img", "create", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "grown.qcow2")
	disk, err := os.ReadFile(file("disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}

	one.says(nil, "image", "list")
	one.refuses([]string{"the message is missing"}, "image", "add", "debian", file("disk.qcow2"))
	one.says([]string{"image debian added: "}, "image", "add", "debian", file("disk.qcow2"), "-m", "try it")
	one.hasFile(disk)
	one.says([]string{"debian", "qcow2", "9.0MiB", "box1.test"}, "image", "list")
	one.says([]string{"nothing changed"}, "image", "add", "debian", file("disk.qcow2"), "-m", "again")
	one.refuses([]string{"is there and is another", "--replace"}, "image", "add", "debian", file("disk.raw"), "-m", "another")
	one.refuses([]string{"backing file", "qemu-img convert"}, "image", "add", "grown", file("grown.qcow2"), "-m", "it would read the box")
	one.refuses([]string{"wrong checksum", "expected " + strings.Repeat("0", 64)}, "image", "add", "other", file("disk.raw"), "--sha256", strings.Repeat("0", 64), "-m", "wrong")
	bare.refuses([]string{"this node keeps no images", "vm.dir"}, "image", "add", "other", file("disk.raw"), "-m", "nowhere")
	one.refuses([]string{"{address} is not known"}, "image", "add", "k", "--kernel", file("disk.raw"), "--cmdline", "ip={address}", "-m", "slip")
	two.refuses([]string{"no member of the mesh is called box9"}, "image", "push", "debian", "box9")

	// To another box, from a third that has none itself.
	s.equal(s.boxes...)
	bare.says([]string{"box2.test: has it"}, "image", "push", "debian", "box2")
	two.hasFile(disk)
	bare.says([]string{"box1.test, box2.test"}, "image", "list")
	bare.says([]string{"box1.test: has it", "box2.test: has it"}, "image", "push", "debian")
	bare.refuses([]string{"keeps images"}, "image", "push", "debian", "box3")
	if got := two.metric(`hostmesh_image_received_bytes_total{from="peer"}`); int(got) != len(disk) {
		t.Errorf("box2 took %v bytes from peers, want %d", got, len(disk))
	}
	if len(two.logged("image fetched", "image=debian", one.id())) != 1 {
		t.Errorf("the log of box2 does not say where the image came from")
	}

	// A kernel with its initrd, sent in two files.
	two.says([]string{"image tiny added"}, "image", "add", "tiny", "--kernel", file("disk.raw"), "--initrd", file("disk.qcow2"), "--cmdline", "console=ttyS0 ip={ip}", "-m", "boots")
	two.says([]string{"kernel", "console=ttyS0 ip={ip}"}, "image", "show", "tiny")
	s.equal(s.boxes...)
	two.says([]string{"box1.test: has it"}, "image", "push", "tiny", "box1.test")
	one.hasFile(raw)

	// One that is not what the catalogue says is verified, and fetched again.
	sum := sha256.Sum256(disk)
	path := filepath.Join(two.imageDir(), "images", hex.EncodeToString(sum[:]))
	bad := bytes.Clone(disk)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	two.says([]string{"box2.test: has it"}, "image", "push", "debian", "box2")
	two.hasFile(disk)

	// A bit that flips on the disk is seen by nobody who does not read.
	one.says([]string{"debian at box1.test: good, ", "tiny at box1.test: good, "}, "image", "verify")
	bare.refuses([]string{"no images are kept there", "vm.dir"}, "image", "verify", "debian")
	bare.refuses([]string{"image other", "not found"}, "image", "verify", "other")
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	bare.says([]string{"box1.test, box2.test"}, "image", "list")
	bare.refuses([]string{"debian at box1.test: good, ", "debian at box2.test: verify image debian: wrong checksum", path, "2 stored images are not what the catalogue says", // tiny has the same file
		"hostmesh image push debian box2.test fetches it again"}, "image", "verify", "--all-nodes")
	if n := two.metric(`hostmesh_image_verified_total{result="damaged"}`); n < 1 {
		t.Errorf("box2 counts %v damaged files", n)
	}
	if len(two.logged("image on this box is not what it was", "image=debian")) == 0 {
		t.Errorf("the log of box2 does not say that a file is damaged")
	}
	bare.says([]string{"box2.test: has it"}, "image", "push", "debian", "box2.test")
	two.hasFile(disk)
	bare.says([]string{"debian at box2.test: good, "}, "image", "verify", "debian", "--node", "box2")
	bare.refuses([]string{"no member of the mesh is called box9"}, "image", "verify", "debian", "--node", "box9")

	// Out of the catalogue, but not while it is named.
	one.mustPut("hosts/web7", "{VM: {Image: debian}}")
	one.refuses([]string{"image debian is named by hosts/web7", "--force"}, "image", "remove", "debian", "-m", "gone")
	one.says([]string{"debian"}, "image", "list")
	one.says(nil, "image", "remove", "debian", "--force", "-m", "gone")
	one.hasFile(disk) // an overlay may grow from it

	// An entry that somebody wrote by hand, and badly.
	one.says(nil, "db", "set", "images/odd", "{Format: qcow2, Size: 5, SHA256: abc}", "-m", "by hand") // only an administrator may
	one.says([]string{"odd", "broken", "64 hex digits"}, "image", "list")
	one.saysWrong("images/odd", "64 hex digits")
}

// id is the node id of a box.
func (b *box) id() string {
	b.site.t.Helper()
	list, err := b.api.Members(b.site.t.Context())
	if err != nil {
		b.site.t.Fatal(err)
	}
	for _, m := range list {
		if m.Name == b.name {
			return m.ID
		}
	}
	b.site.t.Fatalf("%s does not know itself", b.name)
	return ""
}

// TestKilledImageFetch kills an agent in the middle of a fetch from a URL: the next one goes on where it was.
func TestKilledImageFetch(t *testing.T) {
	t.Parallel()
	content := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(content)
	const half = 4 << 20
	var mu sync.Mutex
	var stall bool
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header.Get("Range"))
		stalls := stall
		mu.Unlock()
		if stalls {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content[:half])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer srv.Close()

	s := newSite(t, 2)
	one, two := s.boxes[0], s.boxes[1]
	one.keepsImages()
	two.keepsImages()
	s.start()
	one.says([]string{"added"}, "image", "add", "big", srv.URL+"/big.img", "-m", "from the net")
	s.equal(one, two)
	one.stop() // so that nobody else has it
	mu.Lock()
	stall, asked = true, nil
	mu.Unlock()
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		_, _, _ = two.hostmesh("image", "push", "big", "box2")
	}()
	sum := sha256.Sum256(content)
	path := filepath.Join(two.imageDir(), "images", hex.EncodeToString(sum[:]))
	s.wait("half of the image", func() error {
		fi, err := os.Stat(path + ".part")
		if err == nil && fi.Size() < half {
			err = fmt.Errorf("%d bytes", fi.Size())
		}
		return err
	})
	two.kill()
	<-pushed
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatalf("half an image has the name of a whole one: %v", err)
	}
	mu.Lock()
	stall, asked = false, nil
	mu.Unlock()
	two.start()
	two.says([]string{"box2.test: has it"}, "image", "push", "big", "box2")
	two.hasFile(content)
	mu.Lock()
	defer mu.Unlock()
	if want := fmt.Sprintf("bytes=%d-", half); len(asked) != 1 || asked[0] != want {
		t.Errorf("the URL was asked for %q, want %q", asked, want)
	}
}
