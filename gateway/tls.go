package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

const (
	certName   = "tls/cert.pem" // of a generated certificate, below the state directory
	keyName    = "tls/key.pem"
	certLife   = 397 * 24 * time.Hour // the most that clients take (CA/Browser Forum, ballot SC-031)
	certMargin = 30 * 24 * time.Hour  // a new one is made when less is left
	maxPEM     = 1 << 20
)

// wrapTLS puts TLS over the listeners, if the configuration says so.
func (g *Gateway) wrapTLS(c config.TLS) error {
	if !c.Enabled {
		return nil
	}
	if err := g.readCertificate(c); err != nil {
		return err
	}
	conf := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.cert.Load(), nil },
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // HTTP/2 could not be upgraded to WebSocket
	}
	for i, l := range g.listeners {
		g.listeners[i] = tls.NewListener(l, conf)
	}
	g.secure = true
	return nil
}

// readCertificate makes connections from now on use the certificate as it is
// on disk: one that is renewed keeps its name.
func (g *Gateway) readCertificate(c config.TLS) error {
	cert, err := g.certificate(c)
	if err != nil {
		return fmt.Errorf("gateway.tls: %w", err)
	}
	g.cert.Store(&cert)
	return nil
}

func (g *Gateway) certificate(c config.TLS) (tls.Certificate, error) {
	if c.CertPath != "" || c.KeyPath != "" {
		chain, err := store.ReadConfigFile(g.opts.Paths.Expand(c.CertPath), maxPEM, false)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("certPath: %w", err)
		}
		key, err := store.ReadSecretFile(g.opts.Paths.Expand(c.KeyPath), maxPEM)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("keyPath: %w", err)
		}
		return tls.X509KeyPair(chain, key)
	}
	if !c.AutoGenerate {
		return tls.Certificate{}, errors.New("enabled without certPath and keyPath: set them, or autoGenerate")
	}
	return g.ownCertificate(time.Now())
}

// ownCertificate returns the self-signed certificate of the state directory,
// a new one where there is none or it ends soon.
func (g *Gateway) ownCertificate(now time.Time) (tls.Certificate, error) {
	chain, err := g.store.ReadFile(certName, maxPEM)
	key, keyErr := g.store.ReadFile(keyName, maxPEM)
	if err := errors.Join(err, keyErr); err == nil {
		cert, err := tls.X509KeyPair(chain, key)
		if err == nil && cert.Leaf.NotAfter.Sub(now) > certMargin {
			return cert, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return tls.Certificate{}, err
	}
	chain, key, err = selfSigned(now, g.listeners)
	if err == nil {
		err = g.store.WriteFile(keyName, key)
	}
	if err == nil {
		err = g.store.WriteFile(certName, chain)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate a certificate: %w", err)
	}
	return tls.X509KeyPair(chain, key)
}

// selfSigned makes a certificate for this host and the addresses listened on.
func selfSigned(now time.Time, listeners []net.Listener) (chain, key []byte, err error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	t := x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "openclaw gateway"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && !a.IP.IsUnspecified() {
			t.IPAddresses = append(t.IPAddresses, a.IP)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, &priv.PublicKey, priv)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
