package etcd

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// endpoint is one etcd server and our connection to it.
type endpoint struct {
	url     string // as it came in
	address string // host:port
	conn    *grpc.ClientConn

	mu      sync.Mutex
	token   string  // of the last authentication; empty: none yet, or none needed
	account account // for whom
}

type account struct{ username, password string }

// dial prepares a connection; it is made when it is first needed, and again in the background.
func dial(c *Config, address string) (*endpoint, error) {
	hostport, https, err := c.address(address)
	if err != nil {
		return nil, err
	}
	secure := insecure.NewCredentials()
	if https {
		config, err := c.tls()
		if err != nil {
			return nil, err
		}
		secure = &freshTLS{credentials.NewTLS(config), c}
	}
	var dialer net.Dialer
	conn, err := grpc.NewClient("passthrough:///"+hostport, // the name is resolved again at each connect
		grpc.WithTransportCredentials(secure),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		// 10 s is the least that gRPC takes. Timeout is TCP_USER_TIMEOUT as well: unacknowledged requests end the connection.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), // a conditional write must not be sent twice
	)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %s: %w", address, err)
	}
	return &endpoint{url: address, address: hostport, conn: conn}, nil
}

// freshTLS reads the certificates at each handshake, so that they may be replaced.
type freshTLS struct {
	credentials.TransportCredentials
	config *Config
}

func (f *freshTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := f.config.tls()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

func (f *freshTLS) Clone() credentials.TransportCredentials {
	return &freshTLS{f.TransportCredentials.Clone(), f.config}
}

// ready waits for the connection. Without it nothing has been sent.
func (e *endpoint) ready(ctx context.Context) error {
	for {
		state := e.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			e.conn.Connect()
		case connectivity.Shutdown:
			return errClosed
		case connectivity.TransientFailure:
			// Only a call tells why. It fails at once in this state.
			_, err := pb.NewMaintenanceClient(e.conn).Status(ctx, &pb.StatusRequest{})
			if err == nil || e.conn.GetState() == connectivity.Ready {
				return nil
			}
			return err
		}
		if !e.conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("connect to etcd %s: %w", e.address, ctx.Err())
		}
	}
}

// authorized calls with a token, and again with a new one when the server does not take it: servers forget tokens when
// they restart, and refuse those of before a change of users. A refused request has done nothing.
func (e *endpoint) authorized(ctx context.Context, as account, call func(context.Context) error) error {
	ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	if as.username == "" {
		return call(ctx)
	}
	for try := 0; ; try++ {
		token, err := e.authenticate(ctx, as)
		if err != nil {
			return err
		}
		authorized := ctx
		if token != "" {
			authorized = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
		}
		if err = call(authorized); !wantsToken(err) || try == 2 {
			return err
		}
		e.mu.Lock()
		if e.token == token {
			e.token = ""
		}
		e.mu.Unlock()
	}
}

func (e *endpoint) authenticate(ctx context.Context, as account) (string, error) {
	e.mu.Lock()
	token, same := e.token, e.account == as
	e.mu.Unlock()
	if token != "" && same {
		return token, nil
	}
	answer, err := pb.NewAuthClient(e.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: as.username, Password: as.password})
	if says(err, rpctypes.ErrGRPCAuthNotEnabled) {
		return "", nil // dcs.md section 3.1: go on without
	}
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.token, e.account = answer.Token, as
	return e.token, nil
}
