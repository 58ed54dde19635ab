package image

import (
	"bytes"
	"fmt"

	"github.com/kdomanski/iso9660"
)

// Where a primary volume descriptor stands, and its dates in it (ECMA-119 8.4).
const (
	isoSector     = 2048
	isoDescriptor = 16 * isoSector
	isoCreated    = isoDescriptor + 813
	isoModified   = isoDescriptor + 830
	isoEffective  = isoDescriptor + 864
)

// writeISO makes an ISO 9660 image of files in its root. The same files give the same bytes: the library writes the present
// time into the volume descriptor, which is put right here.
func writeISO(label string, files []seedFile) ([]byte, error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("make an ISO image: %w", err)
	}
	defer func() { _ = w.Cleanup() }() // of a temporary directory
	for _, f := range files {
		if err := w.AddFile(bytes.NewReader(f.text), f.name); err != nil {
			return nil, fmt.Errorf("put %s into an ISO image: %w", f.name, err)
		}
	}
	var out bytes.Buffer
	if err := w.WriteTo(&out, label); err != nil {
		return nil, fmt.Errorf("make an ISO image: %w", err)
	}
	iso := out.Bytes()
	date := seedTime.Format("20060102150405") + "00\x00" // hundredths, and the distance from GMT
	for _, at := range []int{isoCreated, isoModified, isoEffective} {
		copy(iso[at:at+17], date)
	}
	return iso, nil
}
