'use strict';
// Node's http2 as a client of interop_service: every kind of request, checked.
// Usage: node_client.js URL [CA_FILE]
// Prints the name of each check that holds; the first that does not ends it with a trace and status 1.

const assert = require('assert');
const fs = require('fs');
const http2 = require('http2');
const { createHash, randomBytes } = require('crypto');

const [url, ca] = process.argv.slice(2);
const session = http2.connect(url, ca ? { ca: fs.readFileSync(ca) } : {});
const sha256 = (data) => createHash('sha256').update(data).digest('hex');

// Sends a request; resolves to its response's status, headers, body and trailers once it has ended.
function ask(headers, body, trailers) {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, {
      endStream: body === undefined, waitForTrailers: trailers !== undefined,
    });
    const answer = { informational: [], trailers: {} };
    const pieces = [];
    stream.on('headers', (fields) => answer.informational.push(fields));
    stream.on('response', (fields) => { answer.status = fields[':status']; answer.headers = fields; });
    stream.on('trailers', (fields) => { answer.trailers = fields; });
    stream.on('data', (piece) => pieces.push(piece));
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('error', reject);
    stream.on('close', () => resolve({ ...answer, body: Buffer.concat(pieces) }));
    if (body !== undefined) stream.end(body);
  });
}

const checks = {
  async hello() {
    const { status, body } = await ask({ ':path': '/hello' });
    assert.deepStrictEqual([status, body.toString()], [200, 'Hello, World!']);
  },
  async head() {
    const { status, headers, body } = await ask({ ':path': '/hello', ':method': 'HEAD' });
    assert.deepStrictEqual([status, headers['content-length'], body.length], [200, '13', 0]);
  },
  async noContent() {
    const { status, body } = await ask({ ':path': '/empty' });
    assert.deepStrictEqual([status, body.length], [204, 0]);
  },
  async echoWithTrailers() {
    const sent = randomBytes(3 << 20);
    const { status, body, trailers } = await ask({ ':path': '/echo', ':method': 'POST' }, sent, { 'x-client': 'node' });
    assert.strictEqual(status, 200);
    assert.ok(body.equals(sent));
    assert.deepStrictEqual(['x-bytes', 'x-sha256', 'x-client'].map((name) => trailers[name]),
      [String(sent.length), sha256(sent), 'node']);
  },
  async upload() {
    const sent = randomBytes(32 << 20);
    const { body } = await ask({ ':path': '/upload', ':method': 'POST' }, sent);
    assert.strictEqual(body.toString(), `${sent.length} ${sha256(sent)}`);
  },
  async download() {
    const { body } = await ask({ ':path': '/download?bytes=33554432' });
    assert.ok(body.equals(Buffer.alloc(32 << 20, 'd')));
  },
  async informational() {
    const { status, informational } = await ask({ ':path': '/informational' });
    assert.deepStrictEqual([status, informational.map((fields) => fields[':status'])], [200, [103]]);
  },
  async crash() {
    const { status } = await ask({ ':path': '/crash' });
    assert.strictEqual(status, 500);
  },
  async manyAtOnce() {
    const all = await Promise.all(Array.from({ length: 1000 }, () => ask({ ':path': '/hello' })));
    assert.ok(all.every(({ status, body }) => status === 200 && body.length === 13));
  },
  // In the middle of a response.
  async reset() {
    const stream = session.request({ ':path': '/endless' });
    await new Promise((resolve) => stream.once('data', resolve));
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await new Promise((resolve) => stream.once('close', resolve));
    await checks.hello();
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(name);
  }
  session.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
