package api

import (
	"context"
	"io"
)

// Importer takes an inventory into HostDB.
type Importer interface {
	// Import reads a tar of Flipkart's directory layout (NAMESPACE/KEY, NAMESPACE/.members/KEY,
	// NAMESPACE/.perms/KEY) and writes what differs. who is set; each write is checked against the access lists
	// unless who is an administrator, and only an administrator may make a namespace.
	//
	// progress is called from the calling goroutine, as often as the importer likes. The report is valid with an
	// error, too: it says what was written before it. Reading past the limit of the body gives an error that
	// should be wrapped.
	Import(ctx context.Context, who Identity, tar io.Reader, opts ImportOptions, progress func(ImportProgress)) (ImportReport, error)
}

// ImportOptions say how to import.
type ImportOptions struct {
	// Log is the message in history; not blank.
	Log string
	// KeepGoing leaves out the keys that have problems and takes the rest. Without it, one problem stops the import
	// before anything is written.
	KeepGoing bool
	// DryRun reads and checks everything and writes nothing.
	DryRun bool
}

// ImportProgress is how far an import is.
type ImportProgress struct {
	Phase string `json:"phase" enum:"reading,writing" doc:"Nothing is written while reading"`
	Done  int    `json:"done" doc:"Keys handled in this phase"`
	Total int    `json:"total" doc:"Keys in this phase; 0 = not known yet"`
}

// ImportReport is what became of an import.
type ImportReport struct {
	DryRun    bool            `json:"dry_run,omitempty" doc:"True when nothing was to be written"`
	Keys      int             `json:"keys" doc:"Keys read"`
	Created   int             `json:"created" doc:"Keys that were not there before (would be, in a dry run)"`
	Changed   int             `json:"changed" doc:"Keys that were there with other data, members or permissions"`
	Unchanged int             `json:"unchanged" doc:"Keys that were there just so; nothing was written for them"`
	Skipped   int             `json:"skipped" doc:"Keys left out because of problems"`
	Problems  []ImportProblem `json:"problems" nullable:"false" doc:"What is wrong with the input"`
	Warnings  []ImportProblem `json:"warnings" nullable:"false" doc:"What was taken but deserves a look"`
	Complete  bool            `json:"complete" doc:"True when everything that was not skipped is in HostDB"`
	Version   string          `json:"version,omitempty" doc:"HostDB version after the last write"`
	Acks      int             `json:"acks,omitempty" doc:"Boxes that hold the last write durably, the answering one included"`
	Millis    int64           `json:"ms" doc:"Duration in milliseconds"`
}

// ImportProblem is one thing about one place of the input.
type ImportProblem struct {
	File string `json:"file" doc:"Path below the imported directory"`
	Line int    `json:"line,omitempty" doc:"1 = the first; 0 = the file as a whole"`
	Text string `json:"text" doc:"What is wrong"`
}
