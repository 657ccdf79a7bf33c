// Bytes that no polite client sends: smuggling shapes, garbage, slowness, crowds.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { echo, House } from './lib/house.mjs';
import { answersIn, raw, request } from './lib/http.mjs';
import { assertProblem, assertSecured } from './lib/problem.mjs';
import { token } from './lib/token.mjs';
import { pause, until } from './lib/wait.mjs';

const CONNECTIONS_MAX = 8;

describe('http, byte by byte', () => {
  let house, shim, narrow;

  before(async () => {
    house = await House.open('raw');
    [shim, narrow] = await Promise.all([
      house.shim({ HTTP_REQUEST_TIMEOUT_SECONDS: '1', HTTP_HEADERS_MAX_BYTES: '8192' }),
      house.shim({ HTTP_CONNECTIONS_MAX: String(CONNECTIONS_MAX), HTTP_IDLE_TIMEOUT_SECONDS: '1' }),
      house.worker(),
    ]);
    await Promise.all([house.answers(shim), house.answers(narrow)]);
  });
  after(() => house.close());

  const BODY = '{"message":"hi"}';
  const head = (lines, line = 'POST /echo HTTP/1.1') =>
    [line, ...lines, `Authorization: Bearer ${token()}`, 'Content-Type: application/json', '', '']
      .join('\r\n');
  const HOST = 'Host: a';
  const LENGTH = `Content-Length: ${BODY.length}`;
  const CHUNKS = `10\r\n${BODY}\r\n0\r\n\r\n`;

  // What follows such a request on the same connection must never be taken for a request.
  const SMUGGLED = 'GET /health/live HTTP/1.1\r\nHost: smuggled\r\n\r\n';

  // Every answer is a problem, nothing hidden is served, and the shim lives on.
  async function assertRefused(bytes, { statuses, follow = SMUGGLED, end = true } = {}) {
    const { answers, closed, text } = await raw(shim.port, bytes + follow, { limit: 4000, end });
    assert.ok(closed, `the connection was left open: ${text}`);
    assert.equal(text.split('"alive"').length - 1, 0, 'the hidden request was served');
    for (const answer of answers) {
      assert.ok(answer.status >= 400, answer.text);
      assertProblem(answer, answer.status, { instance: answer.headers['x-correlation-id'] !== undefined });
      if (answer.headers['x-correlation-id']) assertSecured(answer);
    }
    if (statuses) assert.deepEqual(answers.map((a) => a.status), statuses, text);
    assert.equal((await request(shim.port, '/health/live')).status, 200);
    assert.ok(!shim.ended, shim.stderr);
  }

  const refused = (name, bytes, options) => it(`refuses ${name}`, () =>
    assertRefused(typeof bytes === 'function' ? bytes() : bytes, options));

  describe('smuggling shapes', () => {
    refused('two equal Content-Lengths', () => head([HOST, LENGTH, LENGTH]) + BODY);
    refused('two different Content-Lengths', () => head([HOST, LENGTH, 'Content-Length: 3']) + BODY);
    refused('a list of Content-Lengths', () => head([HOST, 'Content-Length: 16, 16']) + BODY);
    refused('Content-Length and Transfer-Encoding', () =>
      head([HOST, LENGTH, 'Transfer-Encoding: chunked']) + CHUNKS);
    refused('Transfer-Encoding and Content-Length', () =>
      head([HOST, 'Transfer-Encoding: chunked', 'Content-Length: 4']) + CHUNKS);
    for (const te of ['gzip', 'chunked, chunked', 'xchunked', 'chunkedx', 'gzip, chunked', 'identity',
                      'chunked, identity', '\x0bchunked', '"chunked"', 'chunked;q=1', '']) {
      refused(`Transfer-Encoding ${JSON.stringify(te)}`, () =>
        head([HOST, `Transfer-Encoding: ${te}`]) + CHUNKS);
    }
    refused('Transfer-Encoding twice', () =>
      head([HOST, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked']) + CHUNKS);
    refused('Transfer-Encoding in HTTP/1.0', () =>
      head([HOST, 'Transfer-Encoding: chunked'], 'POST /echo HTTP/1.0') + CHUNKS);
    refused('a space before the colon', () => head([HOST, `Content-Length : ${BODY.length}`]) + BODY);
    refused('a space before the colon of Transfer-Encoding', () =>
      head([HOST, 'Transfer-Encoding : chunked']) + CHUNKS);
    refused('a folded header', () => head([HOST, 'Transfer-Encoding:', ' chunked']) + CHUNKS);
    refused('a folded Content-Length', () => head([HOST, 'Content-Length: 1', ' 6']) + BODY);
    refused('a header that begins with a space', () => head([' X: y', HOST, LENGTH]) + BODY);
    refused('a header without a name', () => head([HOST, ': x', LENGTH]) + BODY);
    refused('a header without a colon', () => head([HOST, 'nonsense', LENGTH]) + BODY);
    refused('a header name with a NUL', () => head([HOST, 'X\0Y: z', LENGTH]) + BODY);
    for (const length of ['-1', '+16', '0x10', '1e1', '', '16 16', '16a', '99999999999999999999999',
                          '18446744073709551632', '4294967312', '９']) {
      refused(`Content-Length ${JSON.stringify(length)}`, () =>
        head([HOST, `Content-Length: ${Buffer.from(length).toString('latin1')}`]) + BODY);
    }
    for (const size of ['zz', '-1', '+10', '0x10', 'ffffffffffffffffff', '10 10', ' ', ';x']) {
      refused(`chunk size ${JSON.stringify(size)}`, () =>
        head([HOST, 'Transfer-Encoding: chunked']) + `${size}\r\n${BODY}\r\n0\r\n\r\n`);
    }
    refused('a chunk without its end', () =>
      head([HOST, 'Transfer-Encoding: chunked']) + `10\r\n${BODY}XX0\r\n\r\n`);
    refused('no Host', () => head([LENGTH]) + BODY);
    refused('two Hosts', () => head([HOST, 'Host: b', LENGTH]) + BODY);
  });

  describe('what is hardly HTTP', () => {
    const plain = (line) => `${line}\r\nHost: a\r\n\r\n`;

    refused('%00 in the path', plain('GET /health%00/live HTTP/1.1'), { statuses: [400] });
    refused('a control character in the path', plain('GET /health%0d%0aX HTTP/1.1'), { statuses: [400] });
    refused('HTTP/2.0', plain('GET /health/live HTTP/2.0'));
    refused('HTTP/2 with prior knowledge', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    refused('HTTP/0.9', 'GET /health/live\r\n\r\n');
    refused('HTTP/9999999999.1', plain('GET /health/live HTTP/9999999999.1'));
    refused('a version that is none', plain('GET /health/live FOO/1.1'));
    refused('a request line of spaces', plain('     '));
    refused('a request line without a path', plain('GET HTTP/1.1'));
    refused('a lower-case method', plain('get /health/live HTTP/1.1'));
    refused('a path without its slash', plain('GET health/live HTTP/1.1'), { follow: '' });
    refused('a broken percent sign as path', plain('GET /%zz HTTP/1.1'), { follow: '' });
    refused('a path that begins with two slashes', plain('GET //health/live HTTP/1.1'), { follow: '' });
    refused('TLS on a plain port', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + '\x00'.repeat(64));
    refused('garbage', '\x00\xff\xfe\x01garbage\r\n\r\n\r\n');
    refused('a long line of garbage', `${'A'.repeat(100000)}`, { end: false });
    refused('a header section too large', () =>
      head([HOST, ...Array.from({ length: 200 }, (_, i) => `X-${i}: ${'y'.repeat(100)}`), LENGTH]) + BODY,
      { end: false });
    refused('a path too large', plain(`GET /${'a'.repeat(20000)} HTTP/1.1`), { end: false });

    it('takes an absolute path of a proxy, or refuses it', async () => {
      const { answers } = await raw(shim.port, 'GET http://a/health/live HTTP/1.1\r\nHost: a\r\n' +
        'Connection: close\r\n\r\n');
      assert.equal(answers.length, 1);
      if (answers[0].status !== 200) assertProblem(answers[0], 400);
    });

    it('answers HTTP/1.0 and closes', async () => {
      const { answers, closed } = await raw(shim.port, 'GET /health/live HTTP/1.0\r\n\r\n');
      assert.equal(answers[0].status, 200);
      assert.ok(closed);
    });

    it('asks for the body when the client waits for that', async () => {
      const socket = net.connect(shim.port, '127.0.0.1');
      let text = '';
      socket.on('data', (part) => { text += part; });
      socket.write(head([HOST, LENGTH, 'Expect: 100-continue', 'Connection: close']));
      await until('100 Continue', () => text.includes('\r\n\r\n'));
      assert.match(text, /^HTTP\/1\.1 100 /);
      socket.write(BODY);
      await until('the answer', () => answersIn(text)[1]);
      assert.equal(answersIn(text)[1].status, 200);
      socket.destroy();
    });

    it('is not impressed by random bytes', async () => {
      let seed = 42;
      const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648);
      const good = head([HOST, LENGTH]) + BODY;
      await Promise.all(Array.from({ length: 60 }, () => {
        const bytes = [...good];
        for (let i = random() % 12; i >= 0; i--) {
          bytes[random() % bytes.length] = String.fromCharCode(random() % 256);
        }
        return raw(shim.port, bytes.join(''), { end: true, limit: 8000 });
      }));
      assert.equal((await echo(shim)).status, 200);
    });
  });

  describe('slowness', () => {
    const heldOpen = (bytes) => new Promise((resolve) => {
      const started = Date.now();
      const socket = net.connect(shim.port, '127.0.0.1');
      let drip;
      socket.on('connect', () => {
        socket.write(bytes);
        drip = setInterval(() => socket.write('x'), 200);
      });
      socket.on('error', () => {});
      socket.resume();
      socket.on('close', () => {
        clearInterval(drip);
        resolve(Date.now() - started);
      });
      setTimeout(() => socket.destroy(), 15000).unref();
    });

    it('of headers ends the connection', async () => {
      const ms = await heldOpen('GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: ');
      assert.ok(ms >= 900 && ms < 8000, `${ms} ms`);
    });

    it('of a body ends the connection', async () => {
      const ms = await heldOpen(head([HOST, 'Content-Length: 5000']));
      assert.ok(ms >= 900 && ms < 8000, `${ms} ms`);
    });

    it('of many does not keep others from being served', async () => {
      const slow = Array.from({ length: 100 }, () => heldOpen('POST /echo HTTP/1.1\r\n'));
      const answers = await Promise.all(Array.from({ length: 20 }, () => echo(shim)));
      for (const answer of answers) assert.equal(answer.status, 200);
      for (const ms of await Promise.all(slow)) assert.ok(ms < 10000, `${ms} ms`);
    });

    it('of a reader of many answers does not harm', async () => {
      const socket = net.connect(shim.port, '127.0.0.1');
      socket.pause();
      socket.on('error', () => {});
      socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(500));
      await pause(300);
      assert.equal((await echo(shim)).status, 200);
      socket.destroy();
    });
  });

  describe('crowds', () => {
    const connect = async () => {
      const client = { socket: net.connect(narrow.port, '127.0.0.1'), text: '', closed: false };
      client.socket.on('data', (part) => { client.text += part; });
      client.socket.on('error', () => {});
      client.socket.on('close', () => { client.closed = true; });
      await new Promise((resolve) => client.socket.once('connect', resolve));
      return client;
    };
    const ask = (client) => client.socket.write('GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
    const served = (client) => answersIn(client.text).length;

    it('wait at the cap, and are served when others leave', async () => {
      const inside = [];
      for (let i = 0; i < CONNECTIONS_MAX; i++) {
        inside.push(await connect());
        // A request that is not complete keeps its place longer than an idle connection does.
        ask(inside[i]);
        await until('it is served', () => served(inside[i]) === 1);
        inside[i].socket.write('GET /he');
      }
      const outside = await Promise.all(Array.from({ length: 5 }, connect));
      outside.forEach(ask);
      await pause(400);
      assert.deepEqual(outside.map(served), [0, 0, 0, 0, 0]);
      assert.ok(outside.every((client) => !client.closed), 'they wait, they are not turned away');
      for (const client of inside) client.socket.destroy();
      await until('all are served', () => outside.every((client) => served(client) === 1));
      for (const client of outside) client.socket.destroy();
    });

    it('that stay idle leave by themselves', async () => {
      const clients = await Promise.all(Array.from({ length: CONNECTIONS_MAX }, connect));
      await until('all were closed', () => clients.every((client) => client.closed));
      assert.equal((await request(narrow.port, '/health/live')).status, 200);
    });

    it('of three times the cap are served in turn', async () => {
      const answers = await Promise.all(
        Array.from({ length: 3 * CONNECTIONS_MAX }, () => echo(narrow)));
      for (const answer of answers) assert.equal(answer.status, 200);
    });
  });
});
