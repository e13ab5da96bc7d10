package machine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the certificates of one cluster; it lives as long as the cluster does.
type authority struct {
	dir    string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	serial int64
}

// certificates makes all that the parts need, and a kubeconfig for each client. The server is where clients find the API.
func (m Machine) certificates(server string, addresses ...string) error {
	if err := m.folders("pki"); err != nil {
		return err
	}
	a, err := newAuthority(m.pki())
	if err != nil {
		return err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	addresses = append(addresses, "127.0.0.1", m.serviceFirst())
	certs := []struct {
		file, user, group string
		names, addresses  []string
		client            bool
	}{
		{file: "apiserver", user: "kube-apiserver", names: names, addresses: addresses},
		{file: "apiserver-kubelet", user: "kube-apiserver-kubelet", group: "system:masters"},
		{file: "admin", user: "admin", group: "system:masters", client: true},
		{file: "controller-manager", user: "system:kube-controller-manager", client: true},
		{file: "scheduler", user: "system:kube-scheduler", client: true},
		{file: "proxy", user: "system:kube-proxy", client: true},
		{file: "kubelet", user: "system:node:" + NodeName, group: "system:nodes", names: []string{NodeName}, addresses: addresses, client: true},
	}
	for _, c := range certs {
		if err := a.issue(c.file, pkix.Name{CommonName: c.user, Organization: groups(c.group)}, c.names, c.addresses); err != nil {
			return err
		}
		if c.client {
			if err := a.kubeconfig(c.file, server); err != nil {
				return err
			}
		}
	}
	return a.serviceAccounts()
}

func groups(g string) []string {
	if g == "" {
		return nil
	}
	return []string{g}
}

func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test/kube"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, key: key, cert: cert, serial: 1}
	return a, a.write("ca.crt", "CERTIFICATE", der)
}

func (a *authority) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (a *authority) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return a.write(name, "PRIVATE KEY", der)
}

// issue makes NAME.crt and NAME.key, good for both ends of a connection.
func (a *authority) issue(name string, subject pkix.Name, names, addresses []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: subject, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames: names,
	}
	for _, ip := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("certificate for %s: %w", subject.CommonName, err)
	}
	if err := a.write(name+".crt", "CERTIFICATE", der); err != nil {
		return err
	}
	return a.writeKey(name+".key", key)
}

// serviceAccounts makes the pair of keys that signs and checks the tokens of service accounts.
func (a *authority) serviceAccounts() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := a.write("service-accounts.pub", "PUBLIC KEY", public); err != nil {
		return err
	}
	return a.writeKey("service-accounts.key", key)
}

func (a *authority) kubeconfig(name, server string) error {
	var data [3]string
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		b, err := os.ReadFile(filepath.Join(a.dir, file))
		if err != nil {
			return err
		}
		data[i] = base64.StdEncoding.EncodeToString(b)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: %[1]s}}]
clusters: [{name: test, cluster: {server: %[2]q, certificate-authority-data: %[3]s}}]
users: [{name: %[1]s, user: {client-certificate-data: %[4]s, client-key-data: %[5]s}}]
`, name, server, data[0], data[1], data[2])
	return os.WriteFile(filepath.Join(a.dir, name+".kubeconfig"), []byte(text), 0o600)
}
