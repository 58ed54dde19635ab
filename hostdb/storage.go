package hostdb

import "errors"

// ErrStorageFull is wrapped by Storage when the file system refuses a write for lack of space.
var ErrStorageFull = errors.New("storage is full")

// ErrBatchTooLarge is wrapped by Storage.Commit when a batch exceeds MaxBatch. Nothing of it was written.
var ErrBatchTooLarge = errors.New("batch is larger than one transaction")

// Put is one pair of a batch. A nil Value deletes the key; an empty, non-nil Value is stored as empty.
type Put struct {
	Key   []byte
	Value []byte
}

// Storage is the durable, ordered key-value map under a Store. It knows nothing of operations.
// One process has it open at a time. All methods are safe for concurrent use; byte slices given to it are not
// kept after the call returns, and slices it hands out in callbacks are valid only during the callback.
type Storage interface {
	// Get returns a copy of the value of key; found is false when there is none.
	Get(key []byte) (value []byte, found bool, err error)

	// Scan calls fn for each pair whose key begins with prefix and is not below from (nil: from the first),
	// in byte order of keys, over one consistent snapshot. It stops at the first error of fn and returns it. fn may
	// call Get.
	Scan(prefix, from []byte, fn func(key, value []byte) error) error

	// ScanBack is Scan in the reverse order: over each pair whose key begins with prefix and is not above from (nil: from
	// the last).
	ScanBack(prefix, from []byte, fn func(key, value []byte) error) error

	// Commit writes the batch: all of it or nothing, durable (fsync) when it returns nil.
	// Puts of one key are applied in order. Concurrent calls may share an fsync.
	// A batch over MaxBatch is refused with ErrBatchTooLarge. After any other error it is unknown whether
	// the batch is durable: the caller closes the Storage and opens it anew to learn.
	Commit(batch []Put) error

	// MaxBatch is what one Commit takes: the sum of key and value bytes, and the number of puts.
	MaxBatch() (bytes, puts int)

	// Close releases everything. It is idempotent; other methods fail after it.
	Close() error
}
