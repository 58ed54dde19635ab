package hostdb

import "context"

// StorageFormat is the version of the rows that this build writes. A Storage with rows of a newer one is refused by Open.
const StorageFormat = storageFormat

// RowScan gives a View, and what calls fn for each row of the storage over one snapshot that holds all that the View shows, and
// may hold writes that came a moment later. Writes go on meanwhile. Slices are valid during the call of fn.
func (s *Store) RowScan(ctx context.Context) (v View, scan func(fn func(key, value []byte) error) error, err error) {
	r, err := s.reading()
	if err != nil {
		return View{}, nil, err
	}
	return r.view, func(fn func(key, value []byte) error) error {
		rows := 0
		return r.st.Scan(nil, nil, func(key, value []byte) error {
			if rows++; rows%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			return fn(key, value)
		})
	}, nil
}
