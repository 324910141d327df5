package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// runClient is the other way round: net/http's and grpc-go's clients, to the service at a URL. It prints the name of
// each check that holds; the first that does not ends it with status 1.
func runClient(target, ca string) {
	at, err := url.Parse(target)
	must(err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	credential := insecure.NewCredentials()
	if ca != "" {
		pem, err := os.ReadFile(ca)
		must(err)
		config.RootCAs.AppendCertsFromPEM(pem)
		credential = credentials.NewTLS(config)
	}
	transport := &http2.Transport{TLSClientConfig: config, AllowHTTP: at.Scheme == "http"}
	if transport.AllowHTTP {
		transport.DialTLSContext = func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	client := &webClient{&http.Client{Transport: transport, Timeout: time.Minute}, target}
	connection, err := grpc.Dial(at.Host, grpc.WithTransportCredentials(credential), grpc.WithDefaultCallOptions(
		grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(largestMessage)))
	must(err)
	calls := &grpcClient{connection}
	for _, check := range []struct {
		name string
		run  func()
	}{
		{"hello", client.hello}, {"head", client.head}, {"no content", client.noContent},
		{"echo with trailers", client.echo}, {"upload", client.upload}, {"download", client.download},
		{"informational", client.informational}, {"crash", client.crash}, {"many at once", client.many},
		{"reset", client.reset},
		{"unary", calls.unary}, {"failure", calls.failure}, {"server streaming", calls.serverStreaming},
		{"client streaming", calls.clientStreaming}, {"bidi", calls.bidi}, {"deadline", calls.deadline},
	} {
		check.run()
		fmt.Println(check.name)
	}
}

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func hold(holds bool, what ...any) {
	if !holds {
		log.Output(2, fmt.Sprint(what...))
		os.Exit(1)
	}
}

type webClient struct {
	http   *http.Client
	target string
}

func (c *webClient) do(request *http.Request, err error) (*http.Response, []byte) {
	must(err)
	response, err := c.http.Do(request)
	must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(err)
	hold(response.ProtoMajor == 2, response.Proto)
	return response, body
}

func (c *webClient) get(path string) (*http.Response, []byte) {
	return c.do(http.NewRequest("GET", c.target+path, nil))
}

func (c *webClient) hello() {
	response, body := c.get("/hello")
	hold(response.StatusCode == 200 && string(body) == "Hello, World!", response, string(body))
}

func (c *webClient) head() {
	response, body := c.do(http.NewRequest("HEAD", c.target+"/hello", nil))
	hold(response.StatusCode == 200 && response.ContentLength == 13 && len(body) == 0, response)
}

func (c *webClient) noContent() {
	response, body := c.get("/empty")
	hold(response.StatusCode == 204 && len(body) == 0, response)
}

func (c *webClient) echo() {
	sent := random(3 << 20)
	// A reader without a length: the trailers are known when the body has been sent.
	request, err := http.NewRequest("POST", c.target+"/echo", io.MultiReader(bytes.NewReader(sent)))
	must(err)
	request.Trailer = http.Header{"X-Client": {"go"}}
	response, body := c.do(request, nil)
	hold(bytes.Equal(sent, body), len(body))
	trailer := response.Trailer
	hold(trailer.Get("X-Bytes") == fmt.Sprint(len(sent)) && trailer.Get("X-Sha256") == sum(sent) &&
		trailer.Get("X-Client") == "go", trailer)
}

func (c *webClient) upload() {
	sent := random(32 << 20)
	_, body := c.do(http.NewRequest("POST", c.target+"/upload", bytes.NewReader(sent)))
	hold(string(body) == fmt.Sprint(len(sent), " ", sum(sent)), string(body))
}

func (c *webClient) download() {
	_, body := c.get("/download?bytes=33554432")
	hold(bytes.Equal(body, bytes.Repeat([]byte("d"), 32<<20)), len(body))
}

func (c *webClient) informational() {
	var seen []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		seen = append(seen, code)
		return nil
	}}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), "GET",
		c.target+"/informational", nil)
	response, _ := c.do(request, err)
	hold(response.StatusCode == 200 && len(seen) == 1 && seen[0] == 103, response, seen)
}

func (c *webClient) crash() {
	response, _ := c.get("/crash")
	hold(response.StatusCode == 500, response)
}

func (c *webClient) many() {
	var all sync.WaitGroup
	for i := 0; i < 1000; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			c.hello()
		}()
	}
	all.Wait()
}

// In the middle of a response.
func (c *webClient) reset() {
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, "GET", c.target+"/endless", nil)
	must(err)
	response, err := c.http.Do(request)
	must(err)
	_, err = io.ReadFull(response.Body, make([]byte, 100000))
	must(err)
	cancel()
	_, err = io.Copy(io.Discard, response.Body)
	hold(errors.Is(err, context.Canceled), err)
	c.hello()
}

func random(size int) []byte {
	data := make([]byte, size)
	_, err := rand.Read(data)
	must(err)
	return data
}

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

type grpcClient struct{ connection *grpc.ClientConn }

func (c *grpcClient) call(method string, request []byte, options ...grpc.CallOption) ([]byte, error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-echo", "one"),
		time.Minute)
	defer cancel()
	var reply []byte
	err := c.connection.Invoke(ctx, "/interop.Echo/"+method, &request, &reply, options...)
	return reply, err
}

func (c *grpcClient) stream(timeout time.Duration, method string) (grpc.ClientStream, func()) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	stream, err := c.connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/interop.Echo/"+method)
	must(err)
	return stream, cancel
}

func (c *grpcClient) unary() {
	var header metadata.MD
	sent := random(3 << 20)
	reply, err := c.call("Unary", sent, grpc.Header(&header))
	must(err)
	hold(bytes.Equal(sent, reply) && len(header.Get("x-echo")) == 1, len(reply), header)
}

func (c *grpcClient) failure() {
	_, err := c.call("FailWith", append([]byte{0, 0, 0, 5}, "no such thing: 100%"...))
	hold(status.Code(err) == codes.NotFound && status.Convert(err).Message() == "no such thing: 100%", err)
	_, err = c.call("NoSuchMethod", nil)
	hold(status.Code(err) == codes.Unimplemented, err)
}

func (c *grpcClient) serverStreaming() {
	stream, cancel := c.stream(time.Minute, "ServerStream")
	defer cancel()
	must(stream.SendMsg(&[]byte{0, 0, 19, 136, 0, 0, 0, 4}))
	must(stream.CloseSend())
	for i := uint32(0); i < 5000; i++ {
		var message []byte
		must(stream.RecvMsg(&message))
		hold(len(message) == 4 && binary.BigEndian.Uint32(message) == i, message)
	}
	hold(errors.Is(stream.RecvMsg(new([]byte)), io.EOF), "more than 5000")
}

func (c *grpcClient) clientStreaming() {
	stream, cancel := c.stream(time.Minute, "ClientStream")
	defer cancel()
	for i := 0; i < 1000; i++ {
		message := make([]byte, i)
		must(stream.SendMsg(&message))
	}
	must(stream.CloseSend())
	var reply []byte
	must(stream.RecvMsg(&reply))
	hold(binary.BigEndian.Uint32(reply) == 1000 && binary.BigEndian.Uint64(reply[4:]) == 999*1000/2, reply)
}

func (c *grpcClient) bidi() {
	stream, cancel := c.stream(time.Minute, "Bidi")
	defer cancel()
	for i := 0; i < 1000; i++ {
		sent, reply := []byte(fmt.Sprint("message ", i)), []byte(nil)
		must(stream.SendMsg(&sent))
		must(stream.RecvMsg(&reply))
		hold(bytes.Equal(sent, reply), string(reply))
	}
	must(stream.CloseSend())
	hold(errors.Is(stream.RecvMsg(new([]byte)), io.EOF), "more than 1000")
}

func (c *grpcClient) deadline() {
	stream, cancel := c.stream(200*time.Millisecond, "Wait")
	defer cancel()
	must(stream.SendMsg(&[]byte{1}))
	err := stream.RecvMsg(new([]byte))
	hold(status.Code(err) == codes.DeadlineExceeded, err)
}
