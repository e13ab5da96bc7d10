package ctl

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/config"
)

// Installation is a Patroni installation that may be taken over, as far as its configuration tells.
type Installation struct {
	Path       string
	File       *config.File
	Settings   config.Settings
	Problems   []config.Problem // of the file
	Impossible error            // why an agent could not start with it
	Site       *Site            // where its cluster lives; nil: SiteErr
	SiteErr    error
}

// Adoption is what adopt says.
type Adoption struct {
	Findings []Finding `json:"findings"`
	Plan     []string  `json:"plan"` // in order; empty: not as it is
}

func (p *Program) adopt() *cobra.Command {
	format := "pretty"
	c := p.command("adopt [OPTIONS] FILE", "Check a Patroni installation and say how it is taken over", func(ctx context.Context, args []string) error {
		found, err := p.Install(args[0], p.options)
		if err != nil {
			return err
		}
		a := p.adoption(ctx, found)
		if format == "json" {
			text, err := json.Marshal(a)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.Out, string(text))
		} else {
			fmt.Fprint(p.Out, a.text())
		}
		if len(a.Plan) == 0 {
			return fmt.Errorf("%s cannot be taken over as it is", args[0])
		}
		return nil
	})
	c.Flags().VarP(choice{&format, []string{"pretty", "json"}}, "format", "f", "output format")
	return c
}

// adoption looks at everything and changes nothing.
func (p *Program) adoption(ctx context.Context, i *Installation) Adoption {
	a := Adoption{Findings: slices.Concat(i.fileFindings(), i.featureFindings(), i.placeFindings()), Plan: []string{}}
	if i.Site == nil {
		a.Findings = append(a.Findings, Finding{"store", "", problem, i.SiteErr.Error(), "without its store a cluster cannot be moved member by member"})
		return a
	}
	t := target{site: i.Site, scope: i.Site.Scope, group: i.Site.Group}
	store, err := p.storeFinding(ctx, &t)
	if a.Findings = append(a.Findings, store); err != nil {
		return a
	}
	a.Findings = append(a.Findings, t.takeoverFindings(i)...)
	statuses, failures := t.ask(ctx, t.Members)
	a.Findings = append(a.Findings, t.leaderFinding(statuses))
	for _, m := range t.Members {
		a.Findings = append(a.Findings, t.memberFindings(m, statuses, failures[m.Name])...)
	}
	if !slices.ContainsFunc(a.Findings, func(f Finding) bool { return f.Verdict == problem }) {
		a.Plan = t.plan(i)
	}
	return a
}

// fileFindings are what is wrong with the file: what makes a start impossible, and, as warnings, what Patroni's validator would refuse
// though it runs with it: then the default counts, as it does for Patroni.
func (i *Installation) fileFindings() (list []Finding) {
	if i.Impossible != nil {
		for line := range strings.SplitSeq(i.Impossible.Error(), "\n") {
			list = append(list, Finding{"configuration", i.Path, problem, line, "correct the file, or give the variables that Patroni's unit has"})
		}
	}
	for _, p := range i.Problems {
		f := Finding{"configuration", p.Path, warning, strings.TrimSpace(p.Value + " " + p.Message), "look whether the file means what it says; regent validate says more"}
		if p.Origin.Line > 0 {
			f.Subject += " (" + p.Origin.String() + ")"
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		list = append(list, Finding{Check: "configuration", Subject: i.Path, Verdict: fine, Found: "every key is known and means the same"})
	}
	return list
}

// feature is something that an installation may rely on and that Regent does not have yet, or has in another way (compatibility.md).
type feature struct {
	name    string
	used    bool
	verdict string
	found   string
	advice  string
}

func findingsOf(features []feature) (list []Finding) {
	for _, f := range features {
		if f.used {
			list = append(list, Finding{"feature", f.name, f.verdict, f.found, f.advice})
		}
	}
	return list
}

func (i *Installation) featureFindings() []Finding {
	doc := i.File.Document
	driver, _ := doc.Get("watchdog", "driver").(string)
	return findingsOf([]feature{
		{"raft", doc.Get("raft") != nil, problem, "Patroni's own protocol; Regent runs etcd at these addresses, and the two do not mix",
			"move the cluster to etcd3 with Patroni first; or stop all members, and start them with Regent: PostgreSQL's data stays"},
		{"citus", doc.Get("citus") != nil, problem, "Citus is not supported", "stay with Patroni for this cluster"},
		{"watchdog.driver", driver != "" && driver != "default", warning, "only the default driver counts", "remove the key"},
	})
}

// Versions of PostgreSQL that are supported.
const oldestPostgres, newestPostgres = 13, 18

// placeFindings look at this machine: the data directory, its owner and its version.
func (i *Installation) placeFindings() (list []Finding) {
	data := i.Settings.Postgres.DataDir
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return []Finding{{"data", data, warning, "there is no data of PostgreSQL that can be read here: " + err.Error(),
			"run this on the member's machine, as the user who owns the data; a member without data is built anew"}}
	}
	f := Finding{Check: "data", Subject: data, Verdict: fine, Found: "PostgreSQL " + strings.TrimSpace(string(text))}
	if v, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || v < oldestPostgres || v > newestPostgres {
		f.Verdict, f.Advice = problem, fmt.Sprintf("Regent knows versions %d to %d: upgrade PostgreSQL first", oldestPostgres, newestPostgres)
	}
	list = append(list, f)
	var stat syscall.Stat_t
	if err := syscall.Stat(data, &stat); err == nil && int(stat.Uid) == os.Geteuid() {
		journal := filepath.Dir(i.Settings.Regent.JournalDir)
		if err := unix.Access(journal, unix.W_OK); err != nil {
			list = append(list, Finding{"data", journal, warning, "the journal of decisions cannot be made there: " + err.Error(), "set regent.journal_dir to a directory that the agent may write to"})
		}
	}
	return list
}

// takeoverFindings compare the installation with its cluster in the store.
func (t target) takeoverFindings(i *Installation) []Finding {
	id := t.Initialize.SystemID
	f := Finding{Check: "cluster", Subject: t.scope, Verdict: fine, Found: fmt.Sprintf("system identifier %s, %d members", id, len(t.Members))}
	local, known := systemID(i.Settings.Postgres.DataDir)
	switch _, member := t.Member(i.Settings.Name); {
	case id == "":
		f.Verdict, f.Found, f.Advice = problem, "the store knows no such cluster", "are scope, namespace and the store's section those of the running Patroni? Variables of its unit count as well"
	case known && local != id:
		f.Verdict, f.Found, f.Advice = problem, fmt.Sprintf("the data here have system identifier %s, the cluster %s", local, id), "this directory belongs to another cluster: is this the right file?"
	case !member:
		f.Verdict, f.Found, f.Advice = warning, "no member is called "+i.Settings.Name, "Regent would join as a new one; the name must stay that of the Patroni member"
	case t.Failover.Requested():
		f.Verdict, f.Found, f.Advice = warning, "a switchover is asked for or scheduled", "let it happen first, or flush it"
	}
	list := []Finding{f}
	for _, m := range t.Members {
		if major, _, _ := strings.Cut(m.Version, "."); m.Regent == "" && (major == "1" || major == "2") {
			list = append(list, Finding{"cluster", m.Name, warning, "runs Patroni " + m.Version, "clusters mixed with Patroni are tested from 3.0 on: upgrade it first"})
		}
	}
	return list
}

// systemID reads the identifier of the data, with which its control file begins.
func systemID(data string) (id string, ok bool) {
	f, err := os.Open(filepath.Join(data, "global", "pg_control"))
	if err != nil {
		return "", false
	}
	defer f.Close()
	var head [8]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return "", false
	}
	return strconv.FormatUint(binary.NativeEndian.Uint64(head[:]), 10), true
}

// plan is how the members that are still Patroni's are taken over: in pause, in which an agent that ends leaves PostgreSQL and the lock alone.
// docs/operations/move-from-patroni.md says more.
func (t target) plan(i *Installation) []string {
	var replicas []string
	leader := ""
	for _, m := range t.Members {
		switch {
		case m.Regent != "":
		case m.Name == t.Leader.Name:
			leader = m.Name
		default:
			replicas = append(replicas, m.Name)
		}
	}
	order := append(replicas, leader)
	if leader == "" {
		order = replicas
	}
	if len(order) == 0 {
		return []string{"nothing is left to do: every member is Regent's"}
	}
	return []string{
		fmt.Sprintf("patronictl -c %s pause %s --wait    # nobody takes over until the end", i.Path, t.scope),
		"then on the machine of " + strings.Join(order, ", then of ") + ":",
		"    systemctl disable --now patroni    # PostgreSQL goes on",
		fmt.Sprintf("    install -o root -g postgres -m 640 %s /etc/regent/regent.yml    # with the variables of Patroni's unit, if it has any, in Regent's", i.Path),
		"    systemctl enable --now regent    # finds PostgreSQL running and carries on with it",
		"    regent list -c /etc/regent/regent.yml    # as before: same roles, running, no lag",
		fmt.Sprintf("regent -c /etc/regent/regent.yml resume %s --wait", t.scope),
		"the way back is the same, with the names exchanged",
	}
}

func (a Adoption) text() string {
	var b strings.Builder
	b.WriteString(findingsText(a.Findings))
	if len(a.Plan) == 0 {
		return b.String()
	}
	b.WriteString("\nHow to take it over:\n")
	for _, line := range a.Plan {
		b.WriteString("  " + line + "\n")
	}
	return b.String()
}
