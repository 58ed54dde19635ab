package badgerdb

import (
	"bytes"
	"errors"
	"fmt"

	badger "github.com/dgraph-io/badger/v4"
)

// Get returns a copy of the value of key.
func (db *DB) Get(key []byte) (value []byte, found bool, err error) {
	if err := db.acquire(); err != nil {
		return nil, false, fmt.Errorf("get: %w", err)
	}
	defer db.users.Done()
	value, found, err = db.get(key)
	if err != nil {
		return nil, false, fmt.Errorf("get %q from %s: %w", key, db.cfg.Dir, err)
	}
	return value, found, nil
}

func (db *DB) get(key []byte) (value []byte, found bool, err error) {
	defer guard(&err)()
	txn := db.bdb.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(dataKey(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, classify(err)
	}
	err = db.set.value(txn, item, func(b []byte) error {
		value = append(make([]byte, 0, len(b)), b...)
		return nil
	})
	return value, err == nil, classify(err)
}

// Scan calls fn for each pair whose key begins with prefix and is not below from, in byte order of keys, over the
// state at the time of the call. fn may call every method but Close. A scan that runs long keeps deleted pairs on disk.
func (db *DB) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	return db.visit(prefix, from, false, fn)
}

// ScanBack is Scan from the last pair, or from the last that is not above from, to the first.
func (db *DB) ScanBack(prefix, from []byte, fn func(key, value []byte) error) error {
	return db.visit(prefix, from, true, fn)
}

func (db *DB) visit(prefix, from []byte, back bool, fn func(key, value []byte) error) error {
	if err := db.acquire(); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	defer db.users.Done()
	err, stop := db.scan(prefix, from, back, fn)
	if stop != nil {
		return stop
	}
	if err != nil {
		return fmt.Errorf("scan %q in %s: %w", prefix, db.cfg.Dir, err)
	}
	return nil
}

// scan keeps apart its own error and fn's, which goes to the caller as it is. A panic of fn stays one.
func (db *DB) scan(prefix, from []byte, back bool, fn func(key, value []byte) error) (err, stop error) {
	inside := false // fn is running
	defer guardUnless(&inside, &err)()
	txn := db.bdb.NewTransaction(false)
	defer txn.Discard()
	opt := badger.DefaultIteratorOptions
	opt.Prefix = dataKey(prefix)
	opt.Reverse = back
	// Values lie beside their keys and are read in place; Badger would start a goroutine for each.
	opt.PrefetchValues = false
	it := txn.NewIterator(opt)
	defer it.Close()

	start := opt.Prefix
	switch {
	case !back && bytes.Compare(from, prefix) > 0:
		start = dataKey(from)
	case back && from != nil && !above(from, prefix):
		start = dataKey(from)
	case back:
		start = append(dataKey(prefix), afterAll...)
	}
	for it.Seek(start); it.Valid(); it.Next() {
		item := it.Item()
		err := db.set.value(txn, item, func(value []byte) error {
			inside = true
			stop = fn(item.Key()[1:], value)
			inside = false
			return nil
		})
		if err != nil || stop != nil {
			return classify(err), stop
		}
	}
	return nil, nil
}

// afterAll, behind a prefix, is above every key with that prefix: keys are shorter.
var afterAll = bytes.Repeat([]byte{0xff}, 48<<10)

// above reports whether key is above every key that begins with prefix.
func above(key, prefix []byte) bool {
	return bytes.Compare(key, prefix) > 0 && !bytes.HasPrefix(key, prefix)
}
