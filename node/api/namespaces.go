package api

import "context"

// Namespaces makes namespaces.
type Namespaces interface {
	// CreateNamespace makes one; making it again changes nothing, and created is false. The caller has been checked
	// to be an administrator. Errors wrap hostdb's sentinels.
	CreateNamespace(ctx context.Context, who Identity, name, log string) (created bool, err error)
}
