package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// rawCodec hands message bytes through untouched: the service needs no generated code.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

const largestMessage = 64 << 20

func newGRPC(pair *tls.Certificate) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodec(rawCodec{}),
		grpc.MaxRecvMsgSize(largestMessage),
		grpc.MaxSendMsgSize(largestMessage),
	}
	if pair != nil {
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(pair)))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "interop.Echo",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Unary", Handler: unaryMethod(unary)},
			{MethodName: "FailWith", Handler: unaryMethod(failWith)},
			{MethodName: "Fate", Handler: unaryMethod(fate)},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "ServerStream", Handler: serverStream, ServerStreams: true},
			{StreamName: "ClientStream", Handler: clientStream, ClientStreams: true},
			{StreamName: "Bidi", Handler: bidi, ServerStreams: true, ClientStreams: true},
			{StreamName: "Wait", Handler: wait, ServerStreams: true},
		},
	}, server)
	return server
}

type method func(context.Context, []byte) ([]byte, error)

func unaryMethod(m method) func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
	return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var request []byte
		if err := decode(&request); err != nil {
			return nil, err
		}
		response, err := m(ctx, request)
		return &response, err
	}
}

// unary echoes the message, the metadata x-echo as a header and x-echo-bin as a trailer.
func unary(ctx context.Context, request []byte) ([]byte, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.MD{"x-echo": md.Get("x-echo")})
	grpc.SetTrailer(ctx, metadata.MD{"x-echo-bin": md.Get("x-echo-bin")})
	return request, nil
}

// failWith takes <<Code:32, Text/binary>> and ends with that status.
func failWith(_ context.Context, request []byte) ([]byte, error) {
	return nil, status.Error(codes.Code(binary.BigEndian.Uint32(request)), string(request[4:]))
}

// serverStream takes <<Count:32, Size:32>> and sends Count messages of Size bytes, each beginning
// with its index as 32 bits.
func serverStream(_ any, stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	count, size := binary.BigEndian.Uint32(request), binary.BigEndian.Uint32(request[4:])
	for i := uint32(0); i < count; i++ {
		message := make([]byte, size)
		binary.BigEndian.PutUint32(message, i)
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	return nil
}

// clientStream answers <<Count:32, Bytes:64>> of the messages it got.
func clientStream(_ any, stream grpc.ServerStream) error {
	response := make([]byte, 12)
	count, size := uint32(0), uint64(0)
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		count++
		size += uint64(len(message))
	}
	binary.BigEndian.PutUint32(response, count)
	binary.BigEndian.PutUint64(response[4:], size)
	return stream.SendMsg(&response)
}

func bidi(_ any, stream grpc.ServerStream) error {
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

var fates = newGates()

// wait takes a key, shows that it runs by sending its headers, and lasts until the call is
// cancelled or its deadline passes; fate tells which.
func wait(_ any, stream grpc.ServerStream) error {
	var key []byte
	if err := stream.RecvMsg(&key); err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	err := stream.Context().Err()
	fates.open(string(key), fmt.Sprint(err))
	return status.FromContextError(err).Err()
}

func fate(_ context.Context, request []byte) ([]byte, error) {
	return []byte(fates.wait(string(request))), nil
}
