package backup_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"hostmesh/hostdb/backup"
)

// whole gives each record of a file that has the form of one the checksum that belongs to it, so that what stands behind the
// checksums is reached, too.
func whole(file []byte, magic, head int) []byte {
	file = bytes.Clone(file)
	for at := magic; at+head <= len(file); {
		n := int(binary.BigEndian.Uint32(file[at+1:]))
		if n > len(file)-at-head {
			break
		}
		table := crc32.MakeTable(crc32.Castagnoli)
		sum := crc32.Update(crc32.Checksum(file[at:at+head-4], table), table, file[at+head:at+head+n])
		binary.BigEndian.PutUint32(file[at+head-4:], sum)
		at += head + n
	}
	return file
}

// FuzzReader reads arbitrary bytes as a backup, once as they are and once with checksums that fit: it ends, with an error that says
// what is wrong or with rows that are as many as the trailer says.
func FuzzReader(f *testing.F) {
	st, store := filled(f, 40)
	file := write(f, st, store.View())
	store.Close()
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte{})
	magic := bytes.IndexByte(file, '\n') + 1
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, whole(b, magic, 9)} {
			in, err := backup.NewReader(bytes.NewReader(b))
			if err != nil {
				continue
			}
			rows, size := uint64(0), uint64(0)
			trailer, err := in.Rows(t.Context(), func(key, value []byte) error {
				rows++
				size += uint64(len(key) + len(value))
				return nil
			})
			if err == nil && (trailer.Rows != rows || trailer.Bytes != size) {
				t.Fatalf("%+v, but %d rows of %d bytes", trailer, rows, size)
			}
		}
	})
}
