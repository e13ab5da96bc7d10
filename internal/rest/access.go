package rest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// allowed applies the access rules, in Patroni's order (rest-api.md 11.1). When it returns false the request is answered.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request, path string) bool {
	rules := s.rules.Load()
	if !s.listed(rules, r, path != "/failsafe") {
		s.text(w, r, http.StatusForbidden, "Access is denied")
		return false
	}
	if rules.tls != nil && (rules.VerifyClient == verifyOptional || rules.VerifyClient == verifyRequired) &&
		(r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		s.text(w, r, http.StatusForbidden, "client certificate required")
		return false
	}
	if rules.Username == "" && rules.Password == "" {
		return true
	}
	user, password, ok := r.BasicAuth()
	given := credentials(user, password)
	if ok && subtle.ConstantTimeCompare(given[:], rules.auth[:]) == 1 {
		return true
	}
	message := "not authenticated"
	if r.Header.Get("Authorization") == "" {
		message = "no auth header received"
	}
	w.Header()["WWW-Authenticate"] = []string{`Basic realm="Patroni"`}
	s.text(w, r, http.StatusUnauthorized, message)
	return false
}

// credentials hashes a name and a password, so that comparing them tells nothing about their length.
func credentials(user, password string) [sha256.Size]byte {
	return sha256.Sum256([]byte(user + ":" + password))
}

// listed says whether the client's address may change something (rest-api.md 11.2). An IPv4 client is the same
// on a dual-stack socket.
func (s *Server) listed(rules *rules, r *http.Request, membersCount bool) bool {
	members := rules.AllowlistIncludeMembers && membersCount
	if !rules.restricted && !members {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	from := peer.Addr().Unmap().WithZone("")
	for _, n := range rules.networks {
		if n.Contains(from) {
			return true
		}
	}
	return members && s.isMember(r.Context(), from)
}

// isMember says whether the address is that of a member's API URL in our last view of the store.
func (s *Server) isMember(ctx context.Context, from netip.Addr) bool {
	snapshot := s.control.Status().Snapshot
	if snapshot == nil {
		return false
	}
	for _, m := range snapshot.Members {
		if host := hostOf(m); host != "" && slices.Contains(s.names.lookup(ctx, host), from) {
			return true
		}
	}
	return false
}

const (
	lookupTime = 2 * time.Second
	nameTime   = 10 * time.Second // for which a resolved name is kept
)

// nameCache keeps the addresses of members' host names for a moment.
type nameCache struct {
	mu    sync.Mutex
	known map[string]resolved
}

type resolved struct {
	addresses []netip.Addr
	until     time.Time
}

func (c *nameCache) lookup(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	c.mu.Lock()
	r := c.known[host]
	c.mu.Unlock()
	if time.Now().Before(r.until) {
		return r.addresses
	}
	r = resolved{addresses: lookup(ctx, host), until: time.Now().Add(nameTime)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) > 1000 { // members come and go; their names must not pile up
		c.known = map[string]resolved{}
	}
	c.known[host] = r
	return r.addresses
}

// lookup returns no address for a name that does not resolve in time.
func lookup(ctx context.Context, host string) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found
}

// resolve turns the list into networks; what cannot be resolved is logged and admits nobody.
func resolve(allowlist []string, log *slog.Logger) []netip.Prefix {
	var networks []netip.Prefix
	for _, entry := range allowlist {
		if n, err := netip.ParsePrefix(entry); err == nil {
			networks = append(networks, netip.PrefixFrom(n.Addr().Unmap(), n.Bits()).Masked())
			continue
		}
		addresses := []netip.Addr{}
		if a, err := netip.ParseAddr(entry); err == nil {
			addresses = append(addresses, a.Unmap())
		} else {
			addresses = lookup(context.Background(), entry)
		}
		if len(addresses) == 0 {
			log.Warn("an entry of restapi.allowlist cannot be resolved, it admits nobody", "entry", entry)
		}
		for _, a := range addresses {
			networks = append(networks, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return networks
}
