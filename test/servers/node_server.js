'use strict';
// The Node peer of the interop suites: http2 over TLS (with a good certificate and with
// wrong ones) and in cleartext, plus a TLS listener that agrees on no protocol at all.
// Usage: node_server.js CERTIFICATE_DIRECTORY FILE_DIRECTORY
// Prints "READY name=port ..." and ends when standard input does.

const fs = require('fs');
const path = require('path');
const http2 = require('http2');
const tls = require('tls');
const { createHash } = require('crypto');

const [certificates, root] = process.argv.slice(2);
const pem = (name) => fs.readFileSync(path.join(certificates, name));

// One request waits here, by key, for what another brings about: no test has to sleep.
class Gates {
  constructor() { this.all = new Map(); }
  get(key) {
    if (!this.all.has(key)) {
      const gate = {};
      gate.opened = new Promise((resolve) => { gate.open = resolve; });
      this.all.set(key, gate);
    }
    return this.all.get(key);
  }
}
const held = new Gates();
const watched = new Gates();

const OK = { ':status': 200, 'content-type': 'application/octet-stream' };

// Answers at once, returns each piece as it comes, and ends with trailers that count what it saw
// and repeat the request's trailer x-client.
function echo(stream) {
  const sum = createHash('sha256');
  let bytes = 0;
  let client;
  stream.respond(OK, { waitForTrailers: true });
  stream.on('trailers', (headers) => { client = headers['x-client']; });
  stream.on('data', (piece) => {
    bytes += piece.length;
    sum.update(piece);
    if (!stream.write(piece)) {
      stream.pause();
      stream.once('drain', () => stream.resume());
    }
  });
  stream.on('end', () => stream.end());
  stream.on('wantTrailers', () => {
    const trailers = { 'x-bytes': String(bytes), 'x-sha256': sum.digest('hex') };
    if (client !== undefined) trailers['x-client'] = client;
    stream.sendTrailers(trailers);
  });
}

// Reads everything, then answers "<bytes> <sha256>".
function upload(stream) {
  const sum = createHash('sha256');
  let bytes = 0;
  stream.on('data', (piece) => { bytes += piece.length; sum.update(piece); });
  stream.on('end', () => {
    if (!stream.headersSent) stream.respond(OK);
    stream.end(`${bytes} ${sum.digest('hex')}`);
  });
}

const routes = {
  '/echo': echo,
  '/upload': upload,
  '/early': (stream) => { stream.respond(OK); stream.end('early'); },
  '/empty': (stream) => stream.respond({ ':status': 204 }, { endStream: true }),
  '/informational': (stream) => {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
    echo(stream);
  },
  // RST_STREAM after the response's headers and a piece are on their way. Node would end the stream
  // first, were it not for the trailers that never come.
  '/rst': (stream, query) => {
    stream.respond(OK, { waitForTrailers: true });
    stream.write('x', () => stream.close(Number(query.get('code'))));
  },
  // The GOAWAY covers this stream: it must run on to its end.
  '/goaway': (stream) => { stream.session.goaway(0, stream.id); echo(stream); },
  '/hold': (stream, query) => {
    stream.respond(OK);
    held.get(query.get('key')).opened.then(() => upload(stream));
  },
  '/release': (stream, query) => {
    held.get(query.get('key')).open();
    stream.respond(OK);
    stream.end();
  },
  '/watch': (stream, query) => {
    stream.respond(OK);
    stream.on('close', () => watched.get(query.get('key')).open(`code ${stream.rstCode}`));
  },
  '/fate': (stream, query) => {
    stream.respond(OK);
    watched.get(query.get('key')).opened.then((fate) => stream.end(fate));
  },
};

function serve(server) {
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    const url = new URL(headers[':path'], 'http://localhost');
    const route = routes[url.pathname];
    if (route) {
      route(stream, url.searchParams);
    } else {
      // Node resets a stream whose request nobody reads as soon as the response is under way.
      stream.resume();
      stream.respondWithFile(path.join(root, path.basename(url.pathname)), {}, {
        onError: () => { stream.respond({ ':status': 404 }, { endStream: true }); },
      });
    }
  });
  server.on('sessionError', () => {});
  return server;
}

const secure = (options) => serve(http2.createSecureServer(options));
const identity = (name) => ({ cert: pem(`${name}.pem`), key: pem(`${name}.key`) });
const server = identity('server');

const listeners = {
  tls: secure(server),
  h2c: serve(http2.createServer()),
  expired: secure(identity('expired')),
  wrong_host: secure(identity('wrong_host')),
  self_signed: secure(identity('self_signed')),
  tls12: secure({ ...server, maxVersion: 'TLSv1.2' }),
  tls13: secure({ ...server, minVersion: 'TLSv1.3' }),
  mtls: secure({ ...server, ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: true }),
  no_alpn: tls.createServer(server, (socket) => socket.on('error', () => {})),
};

const ready = Object.entries(listeners).map(([name, listener]) => new Promise((resolve) => {
  listener.on('tlsClientError', () => {});
  listener.listen(0, '127.0.0.1', () => resolve(`${name}=${listener.address().port}`));
}));
Promise.all(ready).then((names) => console.log(`READY ${names.join(' ')}`));

process.stdin.on('end', () => process.exit(0)).resume();
