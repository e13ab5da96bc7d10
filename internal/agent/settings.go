package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/postgres"
	"github.com/regent-ha/regent/internal/quorum"
)

// reserve is how long before the lock's deadline a demotion begins: time for a fast, then an immediate stop,
// then a kill (ha.md G3). A quarter of the ttl, between one and five seconds.
func reserve(ttl time.Duration) time.Duration {
	return min(max(ttl/4, time.Second), 5*time.Second)
}

// configureLoop hands the loop its settings. A hardware watchdog that fires before the lock's end leaves a demotion less time.
func (a *Agent) configureLoop() {
	l := limits(&a.settings)
	if _, timeout := a.fencing.early(); timeout > 0 {
		l.Reserve = min(l.Reserve, max(timeout-l.LoopWait, 0)/2)
	}
	a.loop.Configure(l, tags(a.settings.Tags))
}

// limits are the settings that decisions depend on.
func limits(e *config.Effective) ha.Limits {
	d := e.Dynamic
	slots, _ := d.SlotRules()
	l := ha.Limits{
		TTL: e.Timing.TTL, LoopWait: e.Timing.LoopWait, RetryTimeout: e.Timing.RetryTimeout,
		Reserve:               reserve(e.Timing.TTL),
		MaxLag:                cluster.LSN(max(d.MaximumLagOnFailover(), 0)),
		PrimaryStart:          d.PrimaryStartTimeout(),
		CheckTimeline:         d.CheckTimeline(),
		Paused:                d.Paused(),
		Type:                  d.Type(),
		Failsafe:              d.FailsafeMode(),
		Sync:                  synchronous(d),
		Survive:               d.Survive(),
		CanBootstrap:          e.Bootstrap.Present,
		CustomBootstrap:       e.Bootstrap.Custom != nil,
		HasConfig:             d.Usable || len(e.Bootstrap.DCS.Document.Fields) > 0,
		UseSlots:              e.UseSlots,
		SlotsTTL:              d.MemberSlotsTTL(),
		Slots:                 slots,
		UseRewind:             e.Postgres.UsePgRewind,
		RemoveOnRewindFailure: e.Postgres.RemoveDataDirOnRewindFailure,
		RemoveOnDivergence:    e.Postgres.RemoveDataDirOnDiverged,
	}
	methods := e.Postgres.CreateReplicaMethods
	if s := d.StandbyCluster(); s != nil {
		l.Remote, methods = remote(s, e.UseSlots), s.CreateReplicaMethods
	}
	for _, m := range e.Postgres.Methods {
		l.NoLeaderClone = l.NoLeaderClone || m.NoLeader && slices.Contains(methods, m.Name)
	}
	return l
}

// remote is whom a standby cluster follows (config.md 3.2). A port alone says nothing of where.
func remote(s *cluster.StandbyCluster, slots bool) cluster.Upstream {
	up := cluster.Upstream{Host: strings.ReplaceAll(s.Host, " ", "")}
	if up.Host != "" {
		up.Port = s.PortNumber()
	}
	if up.Host != "" && slots && s.PrimarySlotName != "" {
		up.Slot = cluster.SlotName(s.PrimarySlotName)
	}
	up.Archive = cluster.Archive{Restore: s.RestoreCommand, Cleanup: s.ArchiveCleanupCommand, Delay: s.RecoveryMinApplyDelay}
	return up
}

// synchronous is what people ask of synchronous replication.
func synchronous(d cluster.DynamicConfig) quorum.Settings {
	return quorum.Settings{
		Mode: d.SynchronousMode(), Strict: d.SynchronousModeStrict(), Wanted: d.SynchronousNodeCount(),
		MaxLag: cluster.LSN(max(d.MaximumLagOnSyncNode(), 0)),
	}
}

func tags(t cluster.Tags) ha.Tags {
	return ha.Tags{NoFailover: t.NoFailover(), Priority: t.FailoverPriority(), NoStream: t.NoStream(), ReplicateFrom: t.ReplicateFrom(), Site: t.Site()}
}

// instanceSettings is the part of the configuration that the local instance needs, in the given role. Unsynced: /sync is known to name nobody.
// While it does, or may, for whom commits wait is not people's to say, also when the mode was switched off: it may be on again by now.
// Feedback: hot_standby_feedback is on, whatever people wrote.
func instanceSettings(e *config.Effective, role cluster.Role, unsynced, feedback bool) (postgres.Settings, error) {
	p := &e.Postgres
	hosts, port, err := config.SplitHostPort(p.Listen, 5432)
	if err != nil {
		return postgres.Settings{}, fmt.Errorf("read postgresql.listen: %w", err)
	}
	connectHost, connectPort, err := config.SplitHostPort(p.ConnectAddress, port)
	if err != nil {
		return postgres.Settings{}, fmt.Errorf("read postgresql.connect_address: %w", err)
	}
	parameters, hba, ident := e.ForRole(role)
	s := postgres.Settings{
		Scope: e.Scope, Name: e.Name,
		DataDir: p.DataDir, ConfigDir: p.ConfigDir, ConfigBaseName: p.ConfigBaseName, CustomConf: p.CustomConf,
		BinDir: p.BinDir, BinNames: p.BinName,
		ListenHosts: hosts, Port: port, ConnectHost: connectHost, ConnectPort: connectPort,
		Database: p.Database, PgPass: p.PgPass,
		UseUnixSocket: p.UseUnixSocket, UseUnixSocketRepl: p.UseUnixSocketRepl, KrbSrvName: p.KrbSrvName,
		Superuser: account(p.Superuser), Replication: account(p.Replication), Rewind: account(p.Rewind),
		Parameters: map[string]string{}, HBA: hba, Ident: ident, RecoveryConf: p.RecoveryConf,
		UseSlots: e.UseSlots, UsePgRewind: p.UsePgRewind,
		RemoveOnRewindFailure: p.RemoveDataDirOnRewindFailure, RemoveOnDivergence: p.RemoveDataDirOnDiverged,
		StartTimeout: p.CtlTimeout,
		Initdb:       words(e.Bootstrap.Initdb), BootstrapHBA: e.Bootstrap.PgHBA, PostBootstrap: e.Bootstrap.PostBootstrap,
		BaseBackup: words(p.BaseBackup),
		PrePromote: p.PrePromote, BeforeStop: p.BeforeStop,
		Environment: config.PostmasterEnviron(os.Environ()),
		Callbacks: map[string]string{
			"on_start": p.Callbacks.OnStart, "on_stop": p.Callbacks.OnStop, "on_restart": p.Callbacks.OnRestart,
			"on_reload": p.Callbacks.OnReload, "on_role_change": p.Callbacks.OnRoleChange,
		},
	}
	if s.Rewind.Username == "" {
		s.Rewind = s.Superuser
	}
	for _, q := range parameters {
		s.Parameters[q.Name] = q.Value
		if q.CommandLine {
			s.Command = append(s.Command, q.Name)
		}
	}
	mode := e.Dynamic.SynchronousMode()
	if s.UserSyncNames = mode == cluster.SyncOff && unsynced; !s.UserSyncNames { // the leader's to set, whatever people wrote
		maps.DeleteFunc(s.Parameters, func(name, _ string) bool { return strings.EqualFold(name, "synchronous_standby_names") })
	}
	if feedback {
		maps.DeleteFunc(s.Parameters, func(name, _ string) bool { return strings.EqualFold(name, "hot_standby_feedback") })
		s.Parameters["hot_standby_feedback"] = "on"
	}
	methods := p.CreateReplicaMethods
	if section := e.Dynamic.StandbyCluster(); section != nil {
		methods = section.CreateReplicaMethods // a list of its own (ha.md 2.12)
	}
	for _, name := range methods {
		m := postgres.CloneMethod{Name: name}
		for _, custom := range p.Methods {
			if custom.Name == name {
				m.Command, m.KeepData, m.NoParams, m.NoLeader = custom.Command, custom.KeepData, custom.NoParams, custom.NoLeader
				m.Arguments = pairs(custom.Arguments)
			}
		}
		s.CloneMethods = append(s.CloneMethods, m)
	}
	if b := e.Bootstrap.Custom; b != nil {
		s.Restore = &postgres.Restore{
			Name: b.Name, Command: b.Command, Arguments: pairs(b.Arguments), NoParams: b.NoParams,
			KeepRecovery: b.KeepExistingRecoveryConf, Recovery: b.RecoveryConf,
		}
	}
	maps.DeleteFunc(s.Callbacks, func(_, command string) bool { return command == "" })
	return s, nil
}

func pairs(options []config.Option) (out [][2]string) {
	for _, o := range options {
		out = append(out, [2]string{o.Name, o.Value})
	}
	return out
}

func words(options []config.Option) []string {
	var out []string
	for _, o := range options {
		out = append(out, o.String())
	}
	return out
}

func account(a config.Account) postgres.Account {
	out := postgres.Account{Username: a.Username, Password: postgres.Secret(a.Password.Reveal()), Options: map[string]string{}}
	for name, value := range map[string]string{
		"sslmode": a.SSLMode, "sslcert": a.SSLCert, "sslkey": a.SSLKey, "sslpassword": a.SSLPassword.Reveal(),
		"sslrootcert": a.SSLRootCert, "sslcrl": a.SSLCRL, "sslcrldir": a.SSLCRLDir, "gssencmode": a.GSSEncMode,
		"channel_binding": a.ChannelBinding, "sslnegotiation": a.SSLNegotiation,
	} {
		if value != "" {
			out.Options[name] = value
		}
	}
	return out
}

// addresses are what the member publishes.
func addresses(e *config.Effective) (connURL, apiURL, proxyURL string) {
	db := e.Postgres.Database
	if db == "" {
		db = "postgres"
	}
	scheme := "http"
	if e.RESTAPI.CertFile != "" {
		scheme = "https"
	}
	connURL = "postgres://" + e.Postgres.ConnectAddress + "/" + db
	apiURL = scheme + "://" + e.RESTAPI.ConnectAddress + "/patroni"
	if e.Postgres.ProxyAddress != "" {
		proxyURL = "postgres://" + e.Postgres.ProxyAddress + "/" + db
	}
	return connURL, apiURL, proxyURL
}

// warn logs each warning about a setting once.
func warn(log *slog.Logger, seen map[config.Warning]bool, warnings []config.Warning) {
	for _, w := range warnings {
		if !seen[w] {
			seen[w] = true
			log.Warn(strings.TrimSpace(string(w)))
		}
	}
}

// tellProblems logs each key that cannot be read, once for as long as its value stays.
func (a *Agent) tellProblems(problems []string) {
	for _, p := range problems {
		if !slices.Contains(a.problems, p) {
			a.log.Warn("a key in the store cannot be used", "problem", p)
		}
	}
	a.problems = problems
}
