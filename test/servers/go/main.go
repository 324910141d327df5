// Command interop_server is the Go peer of the interop suites: net/http's HTTP/2 server and
// grpc-go, both over TLS and in cleartext.
//
// As a server it prints one line "READY name=port ..." once every listener is bound, and ends when its
// standard input does, so that it never outlives the test node that started it. With -client it is
// a client instead: see client.go.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

func main() {
	certificates := flag.String("certificates", ".", "directory with server.pem, server.key and ca.pem")
	root := flag.String("root", ".", "directory of the files to serve")
	client := flag.String("client", "", "URL of the service to be a client of")
	authority := flag.String("ca", "", "the authority that client is to trust")
	flag.Parse()
	if *client != "" {
		runClient(*client, *authority)
		return
	}

	identity := filepath.Join(*certificates, "server")
	pair, err := tls.LoadX509KeyPair(identity+".pem", identity+".key")
	if err != nil {
		log.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(*certificates, "ca.pem"))
	if err != nil {
		log.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	// Handlers that abort on purpose would fill the log with stack traces.
	quiet := log.New(io.Discard, "", 0)
	routes := newRoutes(*root)

	plain := &tls.Config{Certificates: []tls.Certificate{pair}}
	mutual := plain.Clone()
	mutual.ClientAuth = tls.RequireAndVerifyClientCert
	mutual.ClientCAs = trusted
	// In TLS 1.2 a missing certificate fails the handshake itself, in 1.3 what comes after it.
	mutual12 := mutual.Clone()
	mutual12.MaxVersion = tls.VersionTLS12

	web := func(config *tls.Config) func(net.Listener) error {
		server := &http.Server{Handler: routes, ErrorLog: quiet, TLSConfig: config}
		return func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	clear := &http.Server{Handler: h2c.NewHandler(routes, &http2.Server{}), ErrorLog: quiet}

	fmt.Println("READY",
		serve("tls", web(plain)),
		serve("mtls", web(mutual)),
		serve("mtls12", web(mutual12)),
		serve("h2c", clear.Serve),
		serve("grpc", newGRPC(&pair).Serve),
		serve("grpc_h2c", newGRPC(nil).Serve))
	io.Copy(io.Discard, os.Stdin)
}

// serve runs a server on a port of the kernel's choice and returns "name=port".
func serve(name string, server func(net.Listener) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(server(l)) }()
	return fmt.Sprintf("%s=%d", name, l.Addr().(*net.TCPAddr).Port)
}
