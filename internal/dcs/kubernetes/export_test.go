package kubernetes

// InAccount is a with the directory of a service account that is not the pod's.
func (a Access) InAccount(dir string) Access {
	a.account = dir
	return a
}
