package main

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
)

// newRoutes is the set of paths every full-featured peer of the suites serves; peer_server.erl
// says what each is for.
func newRoutes(root string) http.Handler {
	held, watched := newGates(), newGates()
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(root)))
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/upload", upload)
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "early")
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		// net/http answers this very panic with RST_STREAM(INTERNAL_ERROR).
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/goaway", func(w http.ResponseWriter, r *http.Request) {
		// On HTTP/2 net/http turns this header into a graceful GOAWAY of the connection.
		w.Header().Set("Connection", "close")
		echo(w, r)
	})
	mux.HandleFunc("/informational", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		echo(w, r)
	})
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		held.wait(r.URL.Query().Get("key"))
		upload(w, r)
	})
	mux.HandleFunc("/release", func(w http.ResponseWriter, r *http.Request) {
		held.open(r.URL.Query().Get("key"), "")
	})
	mux.HandleFunc("/watch", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		watched.open(r.URL.Query().Get("key"), "cancelled")
	})
	mux.HandleFunc("/fate", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, watched.wait(r.URL.Query().Get("key")))
	})
	// Who the client said it is, in its certificate.
	mux.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	return mux
}

// echo answers at once, returns each piece as it comes, and ends with trailers that count what it
// saw and repeat the request's trailer x-client.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", "X-Bytes, X-Sha256, X-Client")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	sum, n := sha256.New(), 0
	piece := make([]byte, 64*1024)
	for {
		k, err := r.Body.Read(piece)
		if k > 0 {
			n += k
			sum.Write(piece[:k])
			if _, werr := w.Write(piece[:k]); werr != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return
		}
	}
	w.Header().Set("X-Bytes", fmt.Sprint(n))
	w.Header().Set("X-Sha256", hex(sum))
	if v := r.Trailer.Get("X-Client"); v != "" {
		w.Header().Set("X-Client", v)
	}
}

// upload reads everything, then answers "<bytes> <sha256>".
func upload(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err == nil {
		fmt.Fprintf(w, "%d %s", n, hex(sum))
	}
}

func hex(h hash.Hash) string { return fmt.Sprintf("%x", h.Sum(nil)) }
