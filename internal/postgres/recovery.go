package postgres

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// recovery is what WriteConfiguration or Follow wrote last.
type recovery struct {
	mode     StartMode
	upstream cluster.Upstream
}

// recoverySettings are the lines at the end of a standby's postgresql.conf, in order; user is what the configuration
// asks for beside our own (ha.md 2.28, config.md 5.7).
func (s *Settings) recoverySettings(version int, up cluster.Upstream, user map[string]string) keywords {
	settings := map[string]string{
		"recovery_target": "", "recovery_target_lsn": "", "recovery_target_name": "", "recovery_target_time": "", "recovery_target_xid": "",
		"recovery_target_timeline": "latest",
		"primary_conninfo":         s.primaryConninfo(version, up),
		"primary_slot_name":        up.Slot,
	}
	maps.Copy(settings, user)
	for name, v := range map[string]string{"restore_command": up.Archive.Restore, "archive_cleanup_command": up.Archive.Cleanup, "recovery_min_apply_delay": up.Archive.Delay} {
		if v != "" { // section standby_cluster wins
			settings[name] = v
		}
	}
	return sorted(settings)
}

// userRecovery are the recovery settings of the configuration, without those that are ours and those that this
// version does not know.
func (s *Settings) userRecovery(version int) map[string]string {
	from := s.RecoveryConf
	if own := recoveryAmong(s.Parameters); len(own) > 0 {
		from = own // written among the parameters they replace the whole recovery_conf (config.md 5.7)
	}
	user := map[string]string{}
	for name, v := range from {
		if name == "trigger_file" {
			name = "promote_trigger_file"
		}
		switch {
		case strings.HasPrefix(name, "recovery_target"), name == "primary_conninfo", name == "primary_slot_name", name == "standby_mode",
			name == "pause_at_recovery_target", name == "promote_trigger_file" && version >= 16, !isRecoveryParameter(name):
		default:
			user[name] = v
		}
	}
	return user
}

func recoveryAmong(parameters map[string]string) map[string]string {
	found := map[string]string{}
	for name, v := range parameters {
		if isRecoveryParameter(name) {
			found[name] = v
		}
	}
	return found
}

// connectionOptions of the standby's connection, with the first version that knows them and the default (config.md 5.2, 5.7).
var connectionOptions = []struct {
	name, otherwise string
	since           int
}{
	{"sslmode", "prefer", 13}, {"sslcert", "", 13}, {"sslkey", "", 13}, {"sslpassword", "", 13}, {"sslrootcert", "", 13},
	{"sslcrl", "", 13}, {"sslcrldir", "", 14}, {"application_name", "", 13}, {"krbsrvname", "", 13}, {"gssencmode", "prefer", 13},
	{"channel_binding", "prefer", 13}, {"target_session_attrs", "", 13}, {"sslnegotiation", "postgres", 17},
	{"tcp_user_timeout", streamTimeout, 13}, {"options", "-c tcp_user_timeout=" + streamTimeout, 13},
}

// streamTimeout is how long, in milliseconds, either end of a standby's connection waits for data to be acknowledged. Cut off, TCP sends again
// after twice as long each time, so a stream that survives a cut of 30 s may rest for another 30 s, and all that while a failover would lose what
// the standby lacks. A connection that has ended is made anew within 5 s (tcp(7), TCP_USER_TIMEOUT; wal_retrieve_retry_interval). The options
// set it for the WAL sender of this connection.
const streamTimeout = "10000"

// primaryConninfo is how a standby connects to its upstream; empty when there is none. The password is in the
// password file, so that it shows neither in the configuration nor in the catalog.
func (s *Settings) primaryConninfo(version int, up cluster.Upstream) string {
	if up.Host == "" {
		return ""
	}
	dsn := keywords{{"dbname", s.database()}, {"user", s.Replication.Username}}
	if s.Replication.Password != "" {
		dsn = append(dsn, keyword{"passfile", s.PgPass})
	}
	dsn = append(dsn, keyword{"host", up.Host}, keyword{"port", portText(up.Port)})
	for _, o := range connectionOptions {
		v := s.Replication.Options[o.name]
		switch {
		case version < o.since:
			continue
		case o.name == "application_name":
			v = s.Name
		case o.name == "krbsrvname":
			v = s.KrbSrvName
		case o.name == "target_session_attrs" && strings.Contains(up.Host, ",") && up.Slot != "":
			v = "read-write" // of several hosts of a remote cluster, the primary: the slot is there
		case v == "":
			v = o.otherwise
		}
		dsn = append(dsn, keyword{o.name, v})
	}
	return dsn.String()
}

func portText(port int) string {
	if port == 0 {
		return ""
	}
	return strconv.Itoa(port)
}

// writePassfile writes the password file that primary_conninfo refers to. The WAL receiver reads it at each
// connection, so a new password needs no reload (L72).
func (p *Instance) writePassfile(up cluster.Upstream) error {
	s := p.Settings()
	if up.Host == "" || s.Replication.Password == "" || s.PgPass == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.PgPass), 0o700); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	_, err := writeFile(s.PgPass, passLines(up.Host, up.Port, s.Replication), 0o600)
	return err
}

// passLines are the lines of a password file for one account at one or several hosts (PostgreSQL
// documentation, "The Password File"). libpq looks up socket directories as localhost, too.
func passLines(hosts string, port int, a Account) string {
	var b strings.Builder
	local := false
	for host := range strings.SplitSeq(hosts, ",") {
		fmt.Fprintf(&b, "%s:%s:*:%s:%s\n", passField(host), passField(portText(port)), passField(a.Username), passEscaper.Replace(a.Password.Reveal()))
		local = local || strings.HasPrefix(host, "/")
	}
	if local {
		fmt.Fprintf(&b, "localhost:%s:*:%s:%s\n", passField(portText(port)), passField(a.Username), passEscaper.Replace(a.Password.Reveal()))
	}
	return b.String()
}

var passEscaper = strings.NewReplacer(`\`, `\\`, `:`, `\:`)

func passField(v string) string {
	if v == "" {
		return "*"
	}
	return passEscaper.Replace(v)
}

// Follow makes a standby follow another upstream: it rewrites the recovery settings and the password file, and
// reloads if that changes anything, or if the server runs with other settings than it should. Restart is true when
// a reload does not suffice: standby.signal is missing, or PostgreSQL 13 gets another restore_command.
func (p *Instance) Follow(ctx context.Context, up cluster.Upstream) (restart bool, err error) {
	s := p.Settings()
	before, _ := os.ReadFile(s.confFile())
	r := &recovery{mode: AsStandby, upstream: up}
	changed, err := p.writeFiles(r, AsStandby, nil)
	if err != nil {
		return false, fmt.Errorf("follow %s: %w", up.Host, err)
	}
	if err := p.writePassfile(up); err != nil {
		return false, fmt.Errorf("follow %s: %w", up.Host, err)
	}
	p.db.mu.Lock()
	p.db.recovery = r
	p.db.mu.Unlock()
	pm := p.postmaster()
	if pm == nil {
		return false, nil // the next start reads it
	}
	version, _ := dataDirVersion(s.DataDir)
	_, user := p.acceptedSettings(version)
	wanted := s.recoverySettings(version, up, user)
	restart = !exists(filepath.Join(s.DataDir, "standby.signal"))
	if !changed {
		if same, known := p.runsWith(ctx, wanted); known && same {
			return restart, nil
		}
	}
	if version < 14 {
		old := readSettings(oldRecovery(string(before)))
		restart = restart || old["restore_command"] != valueOf(wanted, "restore_command")
	}
	if err := p.signalReload(pm); err != nil {
		return restart, fmt.Errorf("follow %s: %w", up.Host, err)
	}
	return restart, nil
}

func valueOf(k keywords, name string) string {
	i := slices.IndexFunc(k, func(kv keyword) bool { return kv.name == name })
	if i < 0 {
		return ""
	}
	return k[i].value
}

// runsWith compares the server's settings with the wanted ones; known is false when it cannot be asked.
func (p *Instance) runsWith(ctx context.Context, wanted keywords) (same, known bool) {
	result, err := p.query(ctx, `SELECT current_setting('primary_conninfo'), current_setting('primary_slot_name'), current_setting('restore_command'),
current_setting('recovery_target_timeline'), current_setting('archive_cleanup_command'), current_setting('recovery_end_command')`)
	if err != nil || len(result) == 0 {
		return false, false
	}
	names := []string{"primary_conninfo", "primary_slot_name", "restore_command", "recovery_target_timeline", "archive_cleanup_command", "recovery_end_command"}
	for i, name := range names {
		have, want := result[0].At(i), valueOf(wanted, name)
		if name == "primary_conninfo" {
			if !maps.Equal(parseKeywords(have), parseKeywords(want)) {
				return false, true
			}
			continue
		}
		if have != want && slices.ContainsFunc(wanted, func(kv keyword) bool { return kv.name == name }) {
			return false, true
		}
	}
	return true, true
}

// parseKeywords reads a libpq connection string of keyword=value pairs.
func parseKeywords(dsn string) map[string]string {
	found := map[string]string{}
	for i := 0; i < len(dsn); {
		if dsn[i] == ' ' || dsn[i] == '\n' || dsn[i] == '\t' {
			i++
			continue
		}
		eq := strings.IndexByte(dsn[i:], '=')
		if eq < 0 {
			break
		}
		name := strings.TrimSpace(dsn[i : i+eq])
		for i += eq + 1; i < len(dsn) && dsn[i] == ' '; i++ {
		}
		quoted := i < len(dsn) && dsn[i] == '\''
		if quoted {
			i++
		}
		var value strings.Builder
		for ; i < len(dsn); i++ {
			c := dsn[i]
			if c == '\\' && i+1 < len(dsn) {
				i++
				c = dsn[i]
			} else if quoted && c == '\'' {
				i++
				break
			} else if !quoted && (c == ' ' || c == '\n' || c == '\t') {
				break
			}
			value.WriteByte(c)
		}
		found[name] = value.String()
	}
	return found
}

// upstreamOf reads where a standby streams from out of its settings.
func upstreamOf(conninfo, slot string) cluster.Upstream {
	dsn := parseKeywords(conninfo)
	up := cluster.Upstream{Host: dsn["host"], Slot: slot}
	up.Port, _ = strconv.Atoi(dsn["port"])
	return up
}
