// Package meshtest is an in-memory network for tests of what runs over a mesh: with delay, loss and partitions.
package meshtest
