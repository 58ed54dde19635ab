package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestOutside: data of which a part lies outside of the datadir are not replaced, nor by such; what is refused names the setting, and the server goes on.
func TestOutside(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	donor, b := w.boxes[2], w.boxes[3]
	config, err := os.ReadFile(b.server.Config)
	mustDo(t, err)
	away := filepath.Join(b.server.Dir, "away")
	mustDo(t, os.Mkdir(away, 0o777))
	mustDo(t, os.Chmod(away, 0o777))
	refused := func(says string) {
		t.Helper()
		_, err := b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
		if !errors.Is(err, ErrClone) || !strings.Contains(err.Error(), says) {
			t.Errorf("Clone: %v, which does not say %s", err, says)
		}
		if s := b.state(); s.Process != mysqlha.ProcessRuns || s.Copy != nil {
			t.Errorf("afterwards: %+v", s)
		}
	}
	for _, line := range []string{"innodb-undo-directory=" + away, "loose_innodb_log_group_home_dir = redo", "aria_log_dir_path=../away", "innodb_data_file_path=ibdata1:12M;/away/ibdata2:12M:autoextend"} {
		mustDo(t, os.WriteFile(b.server.Config, []byte(string(config)+line+"\n"), 0o600))
		name, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimPrefix(line, "loose_"), "-", "_"), "=")
		refused(strings.TrimSpace(name))
	}
	mustDo(t, os.WriteFile(b.server.Config, []byte(string(config)+"innodb_data_home_dir="+b.server.Datadir+"/\ninnodb_undo_directory=./\nlog_bin="+away+"/log\n"), 0o600))
	table := []string{"SET sql_log_bin=0", "CREATE DATABASE IF NOT EXISTS linked", "CREATE TABLE linked.t (i INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='" + away + "'"}
	b.server.Exec(table...)
	refused("DATA DIRECTORY")
	b.server.Exec("SET sql_log_bin=0", "DROP DATABASE linked")
	donor.server.Exec(table...)
	refused("DATA DIRECTORY")
	donor.server.Exec("SET sql_log_bin=0", "DROP DATABASE linked")
	// All settings name the datadir, but for that of the binary log, which may lie elsewhere.
	_, err = b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
	mustDo(t, err)
	if got := b.server.Text("SELECT @@log_bin_basename"); got != away+"/log" {
		t.Errorf("its log is %s", got)
	}
	b.tidy()
}
