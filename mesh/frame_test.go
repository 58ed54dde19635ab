package mesh

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sampleFrames() []frame {
	return []frame{
		{version: 1, kind: helloKind, hello: hello{1, 2, "m", "n", "name", ordinary}},
		{version: 1, kind: helloKind, hello: hello{1, 1, "m", "n", "name", urgent}},
		{version: 1, kind: welcomeKind, hello: hello{1, 1, "", "", "", ordinary}},
		{version: 1, kind: refuseKind, code: "other_mesh", text: "no"},
		{version: 1, kind: requestKind, id: 7, name: "a.b", timeout: 1500 * time.Millisecond, body: []byte("body")},
		{version: 1, kind: requestKind, id: math.MaxUint64, name: "x", body: []byte{}},
		{version: 1, kind: answerKind, id: 7, body: bytes.Repeat([]byte{1}, 70000)},
		{version: 1, kind: errorKind, id: 7, code: "busy", text: "later"},
		{version: 1, kind: cancelKind, id: 9},
		{version: 1, kind: pingKind},
		{version: 1, kind: pongKind},
	}
}

func TestFrameRoundTrip(t *testing.T) {
	var stream []byte
	for _, f := range sampleFrames() {
		stream = f.append(stream)
	}
	r := bytes.NewReader(stream)
	for _, want := range sampleFrames() {
		got, err := readFrame(r, 1<<20)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := readFrame(r, 1<<20); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestFrameBad(t *testing.T) {
	for what, b := range map[string][]byte{
		"too short":       {0, 0, 0, 3, 1, 1, 1},
		"too long":        {0xff, 0xff, 0xff, 0xff},
		"unknown kind":    {0, 0, 0, 10, 1, 99, 0, 0, 0, 0, 0, 0, 0, 0},
		"no timeout":      {0, 0, 0, 12, 1, byte(requestKind), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"string too long": {0, 0, 0, 12, 1, byte(errorKind), 0, 0, 0, 0, 0, 0, 0, 0, 0, 9},
	} {
		if _, err := readFrame(bytes.NewReader(b), 1000); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := readFrame(bytes.NewReader([]byte{0, 0, 0, 20, 1}), 1000); err != io.ErrUnexpectedEOF {
		t.Errorf("cut short: %v", err)
	}
	// What a later version adds to a hello is skipped.
	f := frame{version: 9, kind: helloKind, hello: hello{min: 1, max: 9, nodeID: "n"}}
	b := append(f.append(nil), "more"...)
	b[3] += 4
	if got, err := readFrame(bytes.NewReader(b), 1000); err != nil || got.hello != f.hello {
		t.Errorf("longer hello: %+v, %v", got, err)
	}
}

// The lane stands behind what the former release reads, and an ordinary hello is that release's to the byte.
func TestHelloLane(t *testing.T) {
	former := []byte("\x00\x00\x00\x19" + "\x01\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x01\x01" + "\x00\x01m" + "\x00\x01n" + "\x00\x04name" + "")
	former[3] = byte(len(former) - frameHead)
	f := frame{version: 1, kind: helloKind, hello: hello{min: 1, max: 1, meshID: "m", nodeID: "n", name: "name"}}
	if got := f.append(nil); !bytes.Equal(got, former) {
		t.Errorf("ordinary: %q, want %q", got, former)
	}
	f.hello.lane = urgent
	if got, want := f.append(nil)[frameHead:], append(former[frameHead:], "\x00\x06urgent"...); !bytes.Equal(got, want) {
		t.Errorf("urgent: %q, want %q", got, want)
	}
	// A lane of a version to come is read, and is none of those known here.
	f.hello.lane = "bulk"
	got, err := readFrame(bytes.NewReader(append(f.append(nil), 0)), 1000)
	if c := (&conn{lane: got.hello.lane}); err != nil || c.urgent() {
		t.Errorf("other lane: %+v, %v", got, err)
	}
}

// The pauses between dials: doubled, half of each random, with an end.
func TestBackoff(t *testing.T) {
	began := time.Unix(1000, 0)
	now := began.Add(time.Second)
	for fails, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 3: 400 * time.Millisecond, 4: 500 * time.Millisecond, 1000: 500 * time.Millisecond} {
		for range 100 {
			if d := urgent.limits().after(fails, began, now).Sub(began); d < want/2 || d >= want {
				t.Fatalf("urgent, %d failures: %v", fails, d)
			}
		}
	}
	for fails, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 7: 6400 * time.Millisecond, 8: 10 * time.Second, 1000: 10 * time.Second} {
		for range 100 {
			if d := ordinary.limits().after(fails, began, now).Sub(now); d < want/2 || d >= want {
				t.Fatalf("%d failures: %v", fails, d)
			}
		}
	}
}

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		min, max, want byte
	}{{1, 1, 1}, {1, 2, 1}, {ProtocolMax + 1, ProtocolMax + 1, 0}, {0, 0, 0}, {ProtocolMin, ProtocolMax, ProtocolMax}} {
		got, err := agree(hello{min: c.min, max: c.max})
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("peer %d to %d: %d, %v", c.min, c.max, got, err)
		}
	}
}

func TestClip(t *testing.T) {
	if s := clip(strings.Repeat("x", 10000)); len(s) > maxText+3 {
		t.Errorf("%d bytes", len(s))
	}
}

func FuzzFrame(f *testing.F) {
	for _, s := range sampleFrames() {
		if len(s.body) < 1000 { // minimizing large inputs would take all the time
			f.Add(s.append(nil))
		}
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 10, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(bytes.NewReader(b), 1<<16)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same.
		again, err := readFrame(bytes.NewReader(got.append(nil)), 1<<17)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}
