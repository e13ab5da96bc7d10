package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// placeholder stands for the peer address of a cluster of one, which nobody connects to.
const placeholder = "127.0.0.1:2380"

// patience is how long a partner may take to say who its cluster's members are. One that waits for its own first
// majority takes connections and says nothing.
const patience = 2 * time.Second

// join finds out what to start as. With data, what it contains decides. Without, we ask the partners: if they already
// are a cluster with us, then our data is lost. The member that we were has made promises which we do not remember, so
// it must not come back: it is removed, and we join as a new one.
func (p plan) join(ctx context.Context, data bool, log *slog.Logger) (initial map[string]string, existing bool, err error) {
	if p.peerListen == "" {
		return map[string]string{p.name: placeholder}, false, nil
	}
	initial = map[string]string{p.name: p.name}
	for _, partner := range p.partners {
		initial[partner] = partner
	}
	if data {
		return initial, false, nil
	}
	for _, partner := range p.partnerClients {
		conn, err := grpc.NewClient("passthrough:///"+partner, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, false, fmt.Errorf("ask partner %s: %w", partner, err)
		}
		members, err := p.replace(ctx, pb.NewClusterClient(conn), log)
		conn.Close()
		if err != nil {
			log.Debug("partner of embedded etcd does not help to join", "partner", partner, "error", err)
			continue
		}
		return p.names(members), true, nil
	}
	return initial, false, nil // nobody is there yet: the first start of all
}

// replace makes sure that the partner's cluster has a member with our address that has never run.
func (p plan) replace(ctx context.Context, partner pb.ClusterClient, log *slog.Logger) ([]*pb.Member, error) {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, err := partner.MemberList(asking, &pb.MemberListRequest{})
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(list.Members, p.self); i >= 0 {
		lost := list.Members[i]
		if len(lost.ClientURLs) == 0 { // published at the first start
			return list.Members, nil
		}
		log.Warn("embedded etcd has no data but its partners know it: it joins them as a new member", "replaced", fmt.Sprintf("%x", lost.ID))
		err := p.persist(ctx, func(ctx context.Context) error {
			_, err := partner.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: lost.ID})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("remove the lost member: %w", err)
		}
	}
	var added *pb.MemberAddResponse
	err = p.persist(ctx, func(ctx context.Context) (err error) {
		added, err = partner.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://" + p.name}})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add the new member: %w", err)
	}
	return added.Members, nil
}

// persist repeats a change of the membership for a while: etcd refuses while its members do not all see each other.
func (p plan) persist(ctx context.Context, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := change(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func (p plan) self(m *pb.Member) bool {
	return slices.Contains(m.PeerURLs, "http://"+p.name)
}

// names turns the member list into etcd's initial cluster.
func (p plan) names(members []*pb.Member) map[string]string {
	initial := map[string]string{}
	for _, m := range members {
		if len(m.PeerURLs) > 0 {
			peer := strings.TrimPrefix(m.PeerURLs[0], "http://")
			initial[peer] = peer
		}
	}
	return initial
}
