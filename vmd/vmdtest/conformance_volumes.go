package vmdtest

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"hostmesh/vmd"
)

func testCreateVolume(t *testing.T, s *suite) {
	ctx := t.Context()
	base := s.box.Base(t, 3<<20)
	size := func(name, path string, want int64) {
		t.Helper()
		if got := s.box.Size(t, s.h, name, path); got != want {
			t.Errorf("%s has %d bytes, want %d", name, got, want)
		}
	}
	path, err := s.h.CreateVolume(ctx, "a.qcow2", base, "raw", 10<<20)
	must(t, err)
	size("a.qcow2", path, 10<<20)
	grown := int64(20 << 20)
	_, err = s.h.CreateVolume(ctx, "a.qcow2", base, "raw", grown)
	if s.lacks(Growth) {
		want(t, "grow", err, vmd.ErrUnsupported)
		grown = 10 << 20
	} else {
		must(t, err)
	}
	size("a.qcow2", path, grown)
	again, err := s.h.CreateVolume(ctx, "a.qcow2", base, "raw", 5<<20) // never less
	must(t, err)
	size("a.qcow2", path, grown)
	if again != path {
		t.Errorf("its path was %s and is %s", path, again)
	}
	path, err = s.h.CreateVolume(ctx, "b.qcow2", base, "raw", 0)
	must(t, err)
	size("b.qcow2", path, 3<<20)
	_, err = s.h.CreateVolume(ctx, "c.qcow2", base+"-missing", "raw", 1<<20)
	want(t, "without its base", err, fs.ErrNotExist, "-missing")
	for what, v := range map[string][3]string{"a path": {"../x", base, "raw"}, "hidden": {".x", base, "raw"}, "no format": {"x", base, ""}, "a relative base": {"x", "y", "raw"}} {
		_, err = s.h.CreateVolume(ctx, v[0], v[1], v[2], 1<<20)
		want(t, what, err, vmd.ErrRefused)
	}
	names, err := s.h.Volumes(ctx)
	must(t, err)
	if !slices.Equal(names, []string{"a.qcow2", "b.qcow2"}) {
		t.Errorf("volumes %q", names)
	}
	for _, name := range []string{"a.qcow2", "a.qcow2", "b.qcow2"} {
		must(t, s.h.DeleteVolume(ctx, name))
	}
	if names, err = s.h.Volumes(ctx); err != nil || len(names) > 0 {
		t.Errorf("volumes %q, %v after all were deleted", names, err)
	}
}

func testWriteVolume(t *testing.T, s *suite) {
	ctx := t.Context()
	old, young := bytes.Repeat([]byte("old "), 100_000), bytes.Repeat([]byte("young"), 50_000)
	var path string
	holds := func(what string, want []byte) {
		t.Helper()
		if got := s.box.Content(t, s.h, "seed.iso", path); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes that begin with %.10q, want %d with %.10q", what, len(got), got, len(want), want)
		}
		names, err := s.h.Volumes(ctx)
		if err != nil || !slices.Equal(names, []string{"seed.iso"}) {
			t.Errorf("%s: volumes %q, %v", what, names, err)
		}
	}
	broken := errors.New("the line broke")
	if _, err := s.h.WriteVolume(ctx, "seed.iso", iotest.ErrReader(broken), 10); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if names, err := s.h.Volumes(ctx); err != nil || len(names) > 0 {
		t.Errorf("volumes %q, %v of what broke off", names, err)
	}
	path, err := s.h.WriteVolume(ctx, "seed.iso", bytes.NewReader(old), int64(len(old)))
	must(t, err)
	holds("written", old)
	for what, size := range map[string]int64{"too short": int64(len(young)) + 1, "too long": int64(len(young)) - 1} {
		if _, err := s.h.WriteVolume(ctx, "seed.iso", bytes.NewReader(young), size); err == nil || !strings.Contains(err.Error(), "bytes") {
			t.Errorf("%s: got %v", what, err)
		}
		holds(what, old)
	}
	_, err = s.h.WriteVolume(ctx, "seed.iso", bytes.NewReader(young), int64(len(young)))
	must(t, err)
	holds("written again", young)
	must(t, s.h.DeleteVolume(ctx, "seed.iso"))
}

func testInUse(t *testing.T, s *suite) {
	d := s.domain("in-use")
	var err error
	d.Disk, err = s.h.CreateVolume(t.Context(), "in-use.qcow2", "", "", 2<<20)
	must(t, err)
	uuid := s.made(t, d)
	must(t, s.h.Start(t.Context(), uuid))
	want(t, "delete what runs", s.h.DeleteVolume(t.Context(), "in-use.qcow2"), vmd.ErrRefused, uuid)
	path, err := s.h.CreateVolume(t.Context(), "in-use.qcow2", "", "", 4<<20) // grown beneath it
	if s.lacks(Growth) {
		want(t, "grow", err, vmd.ErrUnsupported)
	} else {
		must(t, err)
		if got := s.box.Size(t, s.h, "in-use.qcow2", path); got != 4<<20 {
			t.Errorf("%d bytes after it was grown to %d", got, 4<<20)
		}
	}
	s.gone(t, uuid)
	must(t, s.h.DeleteVolume(t.Context(), "in-use.qcow2"))
}
