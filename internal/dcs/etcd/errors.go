package etcd

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/regent-ha/regent/internal/dcs"
)

// errLeaseGone: the server does not know the lease, so it did nothing.
var errLeaseGone = errors.New("the lease has expired")

var (
	errClosed    = errors.New("the store has been closed")
	errNotInTime = errors.New("no current view of the keys in time")
	errStaleTerm = errors.New("this server has not heard of the latest election: it is cut off from the others")
)

// says compares by text: some servers change the code of an answer (dcs.md section 3.1, "Errors").
func says(err, grpc error) bool {
	return err != nil && status.Convert(err).Message() == status.Convert(grpc).Message()
}

func wantsToken(err error) bool {
	return status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unauthenticated ||
		says(err, rpctypes.ErrGRPCUserEmpty) || says(err, rpctypes.ErrGRPCAuthOldRevision)
}

// definite turns an answer that means "nothing was done" into its class; nil for all others: then nobody knows.
func definite(err error) error {
	switch {
	case errors.Is(err, errLeaseGone), says(err, rpctypes.ErrGRPCLeaseNotFound):
		return errLeaseGone
	case says(err, rpctypes.ErrGRPCAuthFailed), says(err, rpctypes.ErrGRPCUserEmpty), status.Code(err) == codes.PermissionDenied:
		return fmt.Errorf("%w: %w", dcs.ErrDenied, err)
	}
	return nil
}
