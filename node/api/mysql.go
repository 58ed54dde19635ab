package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

var (
	// ErrMySQLState is returned for what cannot be done with a cluster as it stands. The text says why, and what to do.
	ErrMySQLState = errors.New("it cannot be done with the cluster as it stands")
	// ErrMySQLAway is returned while nobody watches over a cluster, or who does cannot be asked.
	ErrMySQLAway = errors.New("nobody who watches over the cluster can be asked")
)

// MySQL are the database clusters, as the node that watches over each has them. Errors wrap ErrNotFound, ErrMySQLState, ErrMySQLAway and
// hostdb's sentinels; hostdb.ErrDenied where who asks may not: whoever may write the section MySQL of the tag may.
type MySQL interface {
	// MySQLClusters are all tags with a section MySQL, by name.
	MySQLClusters(ctx context.Context) (MySQLList, error)
	MySQLCluster(ctx context.Context, tag string) (MySQLCluster, error)
	// CheckMySQL compares the settings and accounts of the servers with what the cluster needs.
	CheckMySQL(ctx context.Context, tag string) (MySQLCheck, error)
	// ExplainMySQL says why it did, or did not, fail over, with what was seen.
	ExplainMySQL(ctx context.Context, tag string) (MySQLExplanation, error)
	// SetupMySQL makes the record of a cluster that has none, and the settings of its servers; without Apply it says what it would do.
	SetupMySQL(ctx context.Context, who Identity, tag string, o MySQLSetup) (MySQLDone, error)
	SwitchoverMySQL(ctx context.Context, who Identity, tag string, o MySQLSwitchover) (MySQLDone, error)
	FailoverMySQL(ctx context.Context, who Identity, tag string, o MySQLFailover) (MySQLDone, error)
	// AckMySQL says that a person knows of the last failover, so that another may follow within the hour.
	AckMySQL(ctx context.Context, who Identity, tag string, o MySQLNote) (MySQLDone, error)
	PauseMySQL(ctx context.Context, who Identity, tag string, o MySQLNote) (MySQLDone, error)
	ResumeMySQL(ctx context.Context, who Identity, tag string, o MySQLNote) (MySQLDone, error)
	// RejoinMySQL begins to make a server that was fenced, or fell out, a replica again; CloneMySQL to make it a copy of another. Both go on in the
	// background: the cluster's tasks show how far.
	RejoinMySQL(ctx context.Context, who Identity, tag string, o MySQLRejoin) (MySQLDone, error)
	CloneMySQL(ctx context.Context, who Identity, tag string, o MySQLClone) (MySQLDone, error)
}

// MySQLList is the answer of GET /api/v1/mysql.
type MySQLList struct {
	Version  string         `json:"version" doc:"The state of HostDB of the answering node"`
	Clusters []MySQLCluster `json:"clusters" nullable:"false"`
}

// MySQLCluster is a database cluster.
type MySQLCluster struct {
	Tag        string `json:"tag"`
	VIP        string `json:"vip,omitempty"`
	ReadVIP    string `json:"read_vip,omitempty"`
	Port       uint16 `json:"port,omitempty"`
	Durability string `json:"durability,omitempty" doc:"As HostDB wants it: strict or available"`
	Failover   string `json:"failover,omitempty" doc:"Who decides: manual or auto"`
	MaxLagMS   int64  `json:"max_lag_ms,omitempty"`

	Record *MySQLRecord `json:"record,omitempty" doc:"What the agents have agreed on; absent before setup, and while it cannot be read"`
	// Watcher is the node that watches over the cluster; NotWatched why nobody does, or cannot be asked.
	Watcher    *NodeName `json:"watcher,omitempty"`
	Fence      uint64    `json:"fence,omitempty" doc:"Fencing number of the watcher's grant"`
	NotWatched string    `json:"not_watched,omitempty"`
	Observe    bool      `json:"observe,omitempty" doc:"True where the watcher touches nothing (--observe)"`

	Verdict MySQLVerdict  `json:"verdict"`
	Servers []MySQLServer `json:"servers" nullable:"false"`
	Tasks   []MySQLTask   `json:"tasks" nullable:"false" doc:"What is being done, and what was lately"`
	Problem string        `json:"problem,omitempty" doc:"Why the section cannot be used"`
}

// MySQLRecord is what the agents have agreed on.
type MySQLRecord struct {
	Epoch        uint64            `json:"epoch"`
	Primary      string            `json:"primary"`
	Ackers       []string          `json:"ackers" nullable:"false" doc:"Hosts whose acknowledgement counts"`
	Durability   string            `json:"durability" doc:"As it holds at present"`
	Intent       *MySQLIntent      `json:"intent,omitempty" doc:"A change of the primary that has begun and not ended"`
	LastFailover *time.Time        `json:"last_failover,omitempty"`
	AckedBy      string            `json:"acked_by,omitempty" doc:"Who has acknowledged the last failover"`
	Paused       *MySQLPaused      `json:"paused,omitempty"`
	Fenced       map[string]string `json:"fenced,omitempty" doc:"Old primaries that have not rejoined, and why"`
	History      []MySQLEvent      `json:"history" nullable:"false" doc:"Newest first"`
}

// MySQLIntent is a change of the primary that has begun.
type MySQLIntent struct {
	Kind    string    `json:"kind" doc:"failover or switchover"`
	Step    string    `json:"step"`
	Old     string    `json:"old"`
	To      string    `json:"to,omitempty"`
	Began   time.Time `json:"began"`
	By      string    `json:"by,omitempty"`
	Why     string    `json:"why"`
	Stopped string    `json:"stopped,omitempty" doc:"Why it goes no further without a person"`
	Loss    string    `json:"loss,omitempty" doc:"What may have been lost"`
}

// MySQLPaused is who has paused automatic acts.
type MySQLPaused struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// MySQLEvent is a line of a cluster's history.
type MySQLEvent struct {
	At     time.Time `json:"at"`
	Epoch  uint64    `json:"epoch"`
	What   string    `json:"what"`
	TookMS int64     `json:"took_ms,omitempty"`
	By     string    `json:"by,omitempty"`
}

// MySQLVerdict is what the watcher thinks of the cluster.
type MySQLVerdict struct {
	Name     string   `json:"name" doc:"Of the diagnosis, such as healthy, primary-dead, primary-silent or saturated"`
	Severity string   `json:"severity,omitempty" doc:"error, warning, notice, or absent when all is well"`
	Text     string   `json:"text"`
	Act      string   `json:"act,omitempty" doc:"What the agents do about it, or why they do nothing; absent when nothing is to be done"`
	Remedy   string   `json:"remedy,omitempty" doc:"What an operator should do"`
	Evidence []string `json:"evidence" nullable:"false" doc:"What was seen"`
}

// MySQLServer is a server of a cluster.
type MySQLServer struct {
	Host     string `json:"host"`
	Addr     string `json:"addr,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Role     string `json:"role,omitempty" doc:"primary, replica, or absent while it is neither"`
	Source   string `json:"source,omitempty" doc:"Whom it replicates from"`
	Process  string `json:"process,omitempty" doc:"running, died, stopped or unknown, by the agent beside it"`
	Agent    string `json:"agent,omitempty" doc:"State of the agent beside it: alive, suspect, failed, left, or none"`
	Version  string `json:"version,omitempty"`
	ReadOnly bool   `json:"read_only"`
	Acker    bool   `json:"acker,omitempty" doc:"True when its acknowledgement counts"`
	Reads    bool   `json:"reads,omitempty" doc:"True when it answers at ReadVIP"`
	HasVIP   bool   `json:"has_vip,omitempty"`
	Position string `json:"position,omitempty" doc:"GTID position of what it has applied"`
	Received string `json:"received,omitempty" doc:"GTID position of what it has received"`
	LagMS    *int64 `json:"lag_ms,omitempty" doc:"Absent when it is unknown"`
	IO       string `json:"io,omitempty" doc:"State of the thread that receives"`
	SQL      string `json:"sql,omitempty" doc:"State of the thread that applies"`
	Marked   string `json:"marked,omitempty" doc:"Why it is not to start"`
	// Note is what is the matter with it.
	Note  string `json:"note,omitempty"`
	AgeMS int64  `json:"age_ms,omitempty" doc:"How old this is"`
}

// MySQLTask is a piece of work on a cluster.
type MySQLTask struct {
	What   string    `json:"what" doc:"clone, rejoin, switchover, failover, setup"`
	Host   string    `json:"host,omitempty"`
	Step   string    `json:"step,omitempty"`
	Bytes  int64     `json:"bytes,omitempty"`
	Total  int64     `json:"total,omitempty" doc:"An estimate; absent when unknown"`
	Began  time.Time `json:"began"`
	Done   bool      `json:"done,omitempty"`
	Error  string    `json:"error,omitempty"`
	TookMS int64     `json:"took_ms,omitempty"`
}

// MySQLCheck compares servers with what a cluster needs.
type MySQLCheck struct {
	Tag     string             `json:"tag"`
	Good    bool               `json:"good" doc:"True when nothing of severity error was found"`
	Servers []MySQLServerCheck `json:"servers" nullable:"false"`
	Notes   []string           `json:"notes" nullable:"false" doc:"What concerns the cluster as a whole"`
	// Grants are the statements that make the accounts.
	Grants []string `json:"grants" nullable:"false" doc:"Statements that make the accounts, with the least privileges, without their passwords"`
}

// MySQLServerCheck is what is wrong with one server.
type MySQLServerCheck struct {
	Host     string         `json:"host"`
	Error    string         `json:"error,omitempty" doc:"Why it could not be looked at"`
	Settings []MySQLSetting `json:"settings" nullable:"false" doc:"Those that are wrong"`
}

// MySQLSetting is a variable that is not as it must be.
type MySQLSetting struct {
	Name     string `json:"name"`
	Have     string `json:"have"`
	Want     string `json:"want"`
	Why      string `json:"why"`
	Severity string `json:"severity" doc:"error or warning"`
	Restart  bool   `json:"restart,omitempty" doc:"True when it belongs in the server's file and needs a restart"`
}

// MySQLExplanation says why a cluster did, or did not, fail over.
type MySQLExplanation struct {
	Tag   string   `json:"tag"`
	Lines []string `json:"lines" nullable:"false" doc:"For people"`
}

// MySQLSetup is what POST /api/v1/mysql/{tag}/setup is sent.
type MySQLSetup struct {
	Primary string `json:"primary,omitempty" maxLength:"253" doc:"Key in hosts of the server that is to take writes; absent: the one that others replicate from"`
	Apply   bool   `json:"apply,omitempty" doc:"False: only say what would be done"`
	Log     string `json:"log" maxLength:"4096"`
}

// MySQLSwitchover is what a planned change of the primary is asked with.
type MySQLSwitchover struct {
	To  string `json:"to,omitempty" maxLength:"253" doc:"Key in hosts of the next primary; absent: the best"`
	Log string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// MySQLFailover is what the replacement of a primary is asked with. Who replaces it follows from who has most.
type MySQLFailover struct {
	Force bool   `json:"force,omitempty" doc:"Accept that transactions are lost, and go on where it stopped"`
	Log   string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// MySQLNote is what is sent with what needs a reason alone.
type MySQLNote struct {
	Log string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// MySQLRejoin names the server that is to be a replica again.
type MySQLRejoin struct {
	Host string `json:"host" maxLength:"253"`
	Log  string `json:"log" maxLength:"4096"`
}

// MySQLClone names the server that is to be a copy, and of which.
type MySQLClone struct {
	From string `json:"from,omitempty" maxLength:"253" doc:"Key in hosts of the server that is copied; absent: the best replica"`
	To   string `json:"to" maxLength:"253" doc:"Key in hosts of the server whose data is replaced"`
	Log  string `json:"log" maxLength:"4096"`
}

// MySQLDone is what became of what was asked.
type MySQLDone struct {
	Tag     string   `json:"tag"`
	Epoch   uint64   `json:"epoch,omitempty"`
	Primary string   `json:"primary,omitempty"`
	TookMS  int64    `json:"took_ms,omitempty"`
	Loss    string   `json:"loss,omitempty" doc:"What may have been lost"`
	Begun   bool     `json:"begun,omitempty" doc:"True when it goes on in the background: the cluster's tasks show how far"`
	Lines   []string `json:"lines" nullable:"false" doc:"What was done, or would be"`
}

// mysqlTime is how long a request about a cluster may take: a change of the primary that waits for a replica to apply what it has received.
const mysqlTime = 2 * time.Minute

func mysqlOperation[In, Out any](a huma.API, op huma.Operation, f func(ctx context.Context, in *In) (Out, error)) {
	op.Tags = []string{"databases"}
	if op.Method != http.MethodGet {
		op.Security, op.Errors = writeSecurity, append(slices.Clone(writeErrors), http.StatusConflict)
	}
	huma.Register(a, op, func(ctx context.Context, in *In) (*bodyOf[Out], error) {
		ctx, cancel := context.WithTimeout(ctx, mysqlTime)
		defer cancel()
		out, err := f(ctx, in)
		switch {
		case errors.Is(err, ErrMySQLState):
			return nil, problem(http.StatusConflict, err.Error())
		case errors.Is(err, ErrMySQLAway):
			return nil, problem(http.StatusServiceUnavailable, err.Error())
		case err != nil:
			return nil, vmProblem(err)
		}
		return &bodyOf[Out]{out}, nil
	})
}

func (c MySQLCluster) lists() MySQLCluster {
	c.Servers, c.Tasks, c.Verdict.Evidence = orEmpty(c.Servers), orEmpty(c.Tasks), orEmpty(c.Verdict.Evidence)
	if c.Record != nil {
		r := *c.Record
		r.Ackers, r.History = orEmpty(r.Ackers), orEmpty(r.History)
		c.Record = &r
	}
	return c
}

func (d MySQLDone) lists() MySQLDone {
	d.Lines = orEmpty(d.Lines)
	return d
}

// mysqlTag is the path of what is about one cluster.
type mysqlTag struct {
	Tag string `path:"tag" maxLength:"253" example:"shop-db"`
}

// mysqlCommand registers what is asked of a cluster with a body.
func mysqlCommand[Body any](a huma.API, name, summary, description string, log func(Body) string, f func(ctx context.Context, who Identity, tag string, b Body) (MySQLDone, error)) {
	mysqlOperation(a, huma.Operation{
		OperationID: name + "-mysql", Method: http.MethodPost, Path: "/api/v1/mysql/{tag}/" + name, Summary: summary, Description: description,
	}, func(ctx context.Context, in *struct {
		Tag  string `path:"tag" maxLength:"253" example:"shop-db"`
		Body Body
	}) (MySQLDone, error) {
		if err := logged(log(in.Body)); err != nil {
			return MySQLDone{}, err
		}
		out, err := f(ctx, identityOf(ctx), in.Tag, in.Body)
		return out.lists(), err
	})
}

func registerMySQL(a huma.API, my MySQL) {
	mysqlOperation(a, huma.Operation{
		OperationID: "list-mysql", Method: http.MethodGet, Path: "/api/v1/mysql", Summary: "Database clusters",
		Description: "Each as the node that watches over it has it, which is asked.",
	}, func(ctx context.Context, _ *struct{}) (MySQLList, error) {
		out, err := my.MySQLClusters(ctx)
		out.Clusters = slices.Clone(orEmpty(out.Clusters))
		for i := range out.Clusters {
			out.Clusters[i] = out.Clusters[i].lists()
		}
		return out, err
	})
	mysqlOperation(a, huma.Operation{
		OperationID: "get-mysql", Method: http.MethodGet, Path: "/api/v1/mysql/{tag}", Summary: "One database cluster",
	}, func(ctx context.Context, in *mysqlTag) (MySQLCluster, error) {
		out, err := my.MySQLCluster(ctx, in.Tag)
		return out.lists(), err
	})
	mysqlOperation(a, huma.Operation{
		OperationID: "check-mysql", Method: http.MethodGet, Path: "/api/v1/mysql/{tag}/check", Summary: "What is wrong with the servers of a cluster",
	}, func(ctx context.Context, in *mysqlTag) (MySQLCheck, error) {
		out, err := my.CheckMySQL(ctx, in.Tag)
		out.Servers, out.Notes, out.Grants = slices.Clone(orEmpty(out.Servers)), orEmpty(out.Notes), orEmpty(out.Grants)
		for i := range out.Servers {
			out.Servers[i].Settings = orEmpty(out.Servers[i].Settings)
		}
		return out, err
	})
	mysqlOperation(a, huma.Operation{
		OperationID: "explain-mysql", Method: http.MethodGet, Path: "/api/v1/mysql/{tag}/explain", Summary: "Why a cluster did, or did not, fail over",
	}, func(ctx context.Context, in *mysqlTag) (MySQLExplanation, error) {
		out, err := my.ExplainMySQL(ctx, in.Tag)
		out.Lines = orEmpty(out.Lines)
		return out, err
	})
	mysqlCommand(a, "setup", "Make servers a cluster", "Sets what the servers need, and agrees on the primary. Without apply it only says what it would do.",
		func(b MySQLSetup) string { return b.Log }, my.SetupMySQL)
	mysqlCommand(a, "switchover", "Have another server take the writes", "The primary is well, and hands over: no transaction is lost.",
		func(b MySQLSwitchover) string { return b.Log }, my.SwitchoverMySQL)
	mysqlCommand(a, "failover", "Replace a primary that is gone", "With force, transactions may be lost, and the answer says so.",
		func(b MySQLFailover) string { return b.Log }, my.FailoverMySQL)
	mysqlCommand(a, "ack", "Acknowledge the last failover", "One automatic failover an hour is made unless the last was acknowledged.",
		func(b MySQLNote) string { return b.Log }, my.AckMySQL)
	mysqlCommand(a, "pause", "Do nothing by itself any more", "", func(b MySQLNote) string { return b.Log }, my.PauseMySQL)
	mysqlCommand(a, "resume", "Act by itself again", "", func(b MySQLNote) string { return b.Log }, my.ResumeMySQL)
	mysqlCommand(a, "rejoin", "Make a server a replica again", "By what it has where that can be, else by a clone of a replica.",
		func(b MySQLRejoin) string { return b.Log }, my.RejoinMySQL)
	mysqlCommand(a, "clone", "Make a server a copy of another", "Its data is replaced.",
		func(b MySQLClone) string { return b.Log }, my.CloneMySQL)
}

// MySQLClusters asks for all clusters.
func (c *Client) MySQLClusters(ctx context.Context) (MySQLList, error) {
	var out MySQLList
	err := c.getJSON(ctx, "/api/v1/mysql", &out)
	return out, err
}

// MySQLCluster asks for one.
func (c *Client) MySQLCluster(ctx context.Context, tag string) (MySQLCluster, error) {
	var out MySQLCluster
	err := c.getJSON(ctx, mysqlPath(tag, ""), &out)
	return out, err
}

// CheckMySQL asks what is wrong with the servers of a cluster.
func (c *Client) CheckMySQL(ctx context.Context, tag string) (MySQLCheck, error) {
	var out MySQLCheck
	err := c.getJSON(ctx, mysqlPath(tag, "/check"), &out)
	return out, err
}

// ExplainMySQL asks why a cluster did, or did not, fail over.
func (c *Client) ExplainMySQL(ctx context.Context, tag string) (MySQLExplanation, error) {
	var out MySQLExplanation
	err := c.getJSON(ctx, mysqlPath(tag, "/explain"), &out)
	return out, err
}

func mysqlPath(tag, rest string) string { return "/api/v1/mysql/" + url.PathEscape(tag) + rest }

func (c *Client) mysqlPost(ctx context.Context, tag, name string, body any) (MySQLDone, error) {
	var out MySQLDone
	err := c.writeJSON(ctx, http.MethodPost, mysqlPath(tag, "/"+name), body, &out)
	return out, err
}

// SetupMySQL makes servers a cluster; see MySQL for this and what follows.
func (c *Client) SetupMySQL(ctx context.Context, tag string, o MySQLSetup) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "setup", o)
}

// SwitchoverMySQL has another server take the writes.
func (c *Client) SwitchoverMySQL(ctx context.Context, tag string, o MySQLSwitchover) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "switchover", o)
}

// FailoverMySQL replaces a primary that is gone.
func (c *Client) FailoverMySQL(ctx context.Context, tag string, o MySQLFailover) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "failover", o)
}

// AckMySQL acknowledges the last failover.
func (c *Client) AckMySQL(ctx context.Context, tag string, o MySQLNote) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "ack", o)
}

// PauseMySQL stops automatic acts.
func (c *Client) PauseMySQL(ctx context.Context, tag string, o MySQLNote) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "pause", o)
}

// ResumeMySQL allows them again.
func (c *Client) ResumeMySQL(ctx context.Context, tag string, o MySQLNote) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "resume", o)
}

// RejoinMySQL makes a server a replica again.
func (c *Client) RejoinMySQL(ctx context.Context, tag string, o MySQLRejoin) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "rejoin", o)
}

// CloneMySQL makes a server a copy of another.
func (c *Client) CloneMySQL(ctx context.Context, tag string, o MySQLClone) (MySQLDone, error) {
	return c.mysqlPost(ctx, tag, "clone", o)
}
