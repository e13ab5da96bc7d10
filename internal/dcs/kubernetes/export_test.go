package kubernetes

import "github.com/regent-ha/regent/internal/cluster"

// Followed is the version up to which the watch of a resource has told everything.
func (s *Store) Followed(resource string) cluster.Revision {
	s.view.Lock()
	defer s.view.Unlock()
	for _, k := range s.view.used {
		if s.config.resource(k) == resource {
			return s.view.streams[k].at
		}
	}
	return 0
}

// InAccount is a with the directory of a service account that is not the pod's.
func (a Access) InAccount(dir string) Access {
	a.account = dir
	return a
}
