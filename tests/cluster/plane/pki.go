package plane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const certificateLife = 10 * 365 * 24 * time.Hour

// authority signs certificates with a CA of the cluster.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// identity is what a certificate says of its holder. With hosts it is a server's certificate too.
type identity struct {
	name   string
	groups []string
	hosts  []string
}

func newAuthority(name string) (*authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	key, der, err := sign(template, nil)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key, pem: encodeCertificate(der)}, nil
}

func loadAuthority(dir, name string) (*authority, error) {
	data, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	keyData, err := os.ReadFile(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	keyBlock, _ := pem.Decode(keyData)
	if block == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s/%s.{crt,key} is not PEM", dir, name)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	return &authority{certificate: certificate, key: key, pem: data}, err
}

// issue returns a certificate and its key, both PEM.
func (a *authority) issue(who identity) (certificate, key []byte, err error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: who.name, Organization: who.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range who.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(who.hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	private, der, err := sign(template, a)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", who.name, err)
	}
	key, err = encodeKey(private)
	return encodeCertificate(der), key, err
}

// sign makes a key and has the parent, or the key itself where there is none, sign the template.
func sign(template *x509.Certificate, parent *authority) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(certificateLife)
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	return key, der, err
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// ensurePKI makes all keys and certificates of the control plane, once: the folder appears whole or not at all.
func ensurePKI(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o700)); err != nil {
		return err
	}
	files, err := controlPlaneKeys()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(partial, name), data, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(partial, dir)
}

func controlPlaneKeys() (map[string][]byte, error) {
	files := map[string][]byte{}
	holders := map[string][]identity{
		"ca": {
			{name: "kube-apiserver", hosts: []string{"127.0.0.1", "localhost", planeIP, kubernetesIP, "kubernetes", "kubernetes.default",
				"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
			{name: "apiserver-kubelet-client", groups: []string{"system:masters"}},
			{name: "system:kube-controller-manager"}, {name: "system:kube-scheduler"}, {name: "system:kube-proxy"},
			{name: "admin", groups: []string{"system:masters"}},
		},
		"front-proxy-ca": {{name: "front-proxy-client"}},
	}
	for ca, identities := range holders {
		signer, err := newAuthority(ca)
		if err != nil {
			return nil, err
		}
		files[ca+".crt"] = signer.pem
		if files[ca+".key"], err = encodeKey(signer.key); err != nil {
			return nil, err
		}
		for _, who := range identities {
			file := fileOf(who.name)
			if files[file+".crt"], files[file+".key"], err = signer.issue(who); err != nil {
				return nil, err
			}
		}
	}
	serviceAccounts, err := newAuthority("service-accounts") // only its key is used, to sign tokens
	if err != nil {
		return nil, err
	}
	files["service-accounts.key"], err = encodeKey(serviceAccounts.key)
	return files, err
}
