// Requests of well-behaved and of mistaken clients.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { after, before, describe, it } from 'node:test';
import { echo, House, INTERNAL_KEY, ORIGIN } from './lib/house.mjs';
import { answersIn, metricsOf, raw, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { assertProblem, assertSecured } from './lib/problem.mjs';
import { bearer, forge, now, SECRET, token } from './lib/token.mjs';
import { until } from './lib/wait.mjs';

describe('http', () => {
  let house, shim, worker;

  before(async () => {
    house = await House.open('http', { database: true });
    [shim, worker] = await Promise.all([house.shim({ HTTP_BODY_MAX_BYTES: '65536' }), house.worker(),
                                        house.persistence(), house.inference()]);
    await house.answers(shim);
  });
  after(() => house.close());

  const post = (body, headers = {}, path = '/api/chat/echo') =>
    request(shim.port, path, { method: 'POST', body, headers: { ...bearer(), ...headers } });

  describe('the echo', () => {
    for (const path of ['/api/chat/echo', '/echo']) {
      it(`comes back from ${path}`, async () => {
        const answer = await post({ message: 'hello' }, {}, path);
        assert.equal(answer.status, 200);
        assert.match(answer.headers['content-type'], /^application\/json/);
        assert.deepEqual(answer.json, { message: 'hello' });
        assertSecured(answer);
      });
    }

    it('keeps every kind of value and every script', async () => {
      const body = {
        message: 'Grüße, 世界, مرحبا, 🚀👩‍👩‍👧, \u2028\u2029, "\\/\b\f\n\r\t',
        numbers: [0, -1, 3.5, 1e15, 1.5e300, -2e-300, Number.MAX_SAFE_INTEGER],
        nested: { list: [[], {}, null, true, false, ''] },
        ключ: 'value',
      };
      const answer = await post(body);
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.json, body);
    });

    it('takes a missing body as an empty object', async () => {
      const answer = await request(shim.port, '/echo', { method: 'POST', headers: bearer() });
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.json, {});
    });

    it('takes a query along, and a charset', async () => {
      const answer = await post({ a: 1 }, { 'content-type': 'application/json; charset=utf-8' },
                                '/echo?x=1&y=%20&z');
      assert.equal(answer.status, 200);
    });

    it('takes of a query what has a name and a value, and cuts nothing at a NUL', async () => {
      const get = (query) => request(shim.port, `/conversations?${query}`, { headers: bearer() });
      for (const query of ['a&limit=none', '=1&limit=none', '&&limit=none&', 'limit=none&b', 'limit=1%00', 'limit=%001']) {
        const problem = assertProblem(await get(query), 400);
        assert.deepEqual(problem.errors.map((e) => e.field), ['limit'], query);
      }
    });

    it('gives every request a correlation id of its own', async () => {
      const ids = new Set();
      for (let i = 0; i < 5; i++) ids.add((await post({})).headers['x-correlation-id']);
      assert.equal(ids.size, 5);
    });

    it('answers many at once, each with its own', async () => {
      const headers = bearer();
      const answers = await Promise.all(
        Array.from({ length: 200 }, (_, i) => post({ message: `number ${i}` }, headers)));
      answers.forEach((answer, i) => assert.deepEqual(answer.json, { message: `number ${i}` }));
    });
  });

  describe('tokens', () => {
    const refused = (name, authorization, detail) => it(`refuses ${name}`, async () => {
      const headers = typeof authorization === 'function' ? authorization() : authorization;
      const answer = await request(shim.port, '/echo', { body: {}, headers });
      const problem = assertProblem(answer, 401);
      assert.equal(answer.headers['www-authenticate'], 'Bearer');
      assert.match(problem.detail, detail);
      assertSecured(answer);
    });
    const bearing = (make) => () => ({ authorization: `Bearer ${make()}` });
    const right = { alg: 'HS256', typ: 'JWT' };
    const claims = (more = {}) => ({ sub: randomUUID(), exp: now() + 600, ...more });

    refused('a request without one', {}, /Authorization header/);
    refused('another scheme', { authorization: 'Basic Zm9vOmJhcg==' }, /Bearer/);
    refused('an empty one', { authorization: 'Bearer ' }, /./);
    refused('what is no JWT', { authorization: 'Bearer abc' }, /not a JWT/);
    refused('an expired one', bearing(() => token({ exp: now() - 120 })), /expired/);
    refused('one that is not valid yet', bearing(() => token({ nbf: now() + 120 })), /not valid yet/);
    refused('one issued in the future', bearing(() => token({ iat: now() + 120 })), /future/);
    refused('an exp that is no time', bearing(() => token({ exp: 'tomorrow' })), /exp/);
    refused('alg none', bearing(() => forge({ alg: 'none', typ: 'JWT' }, claims())), /algorithm/);
    refused('alg none without a signature', bearing(() =>
      forge({ alg: 'none', typ: 'JWT' }, claims()).replace(/[^.]*$/, '')), /algorithm/);
    refused('alg None', bearing(() => forge({ alg: 'None' }, claims())), /algorithm/);
    refused('alg RS256', bearing(() => forge({ alg: 'RS256', typ: 'JWT' }, claims())), /algorithm/);
    refused('alg HS512 by the same secret', bearing(() =>
      forge({ alg: 'HS512', typ: 'JWT' }, claims())), /algorithm/);
    refused('another secret', bearing(() => forge(right, claims(), 'another-secret-of-some-length-here')),
            /signature/);
    refused('an empty secret', bearing(() => forge(right, claims(), '')), /signature/);
    refused('a cut signature', bearing(() => token().slice(0, -5)), /signature/);
    refused('no signature', bearing(() => token().replace(/[^.]*$/, '')), /signature/);
    refused('changed claims', bearing(() => {
      const parts = token().split('.');
      parts[1] = Buffer.from(JSON.stringify(claims({ role: 'admin' }))).toString('base64url');
      return parts.join('.');
    }), /signature/);
    refused('crit', bearing(() => forge({ ...right, crit: ['b64'], b64: false }, claims())), /crit/);
    refused('another typ', bearing(() => forge({ alg: 'HS256', typ: 'JWE' }, claims())), /type/);
    refused('a header that is no JSON', bearing(() => forge('nonsense', claims())), /header/);
    refused('claims that are no JSON', bearing(() => forge(right, 'nonsense')), /./);
    refused('no subject', bearing(() => forge(right, { exp: now() + 600 })), /subject/);
    refused('an empty subject', bearing(() => token({ sub: '' })), /subject/);
    refused('a subject with control characters', bearing(() => token({ sub: 'a\nb' })), /subject/);
    refused('a giant one', bearing(() => token({ padding: 'x'.repeat(9000) })), /too long/);

    it('accepts one without typ and without exp', async () => {
      const authorization = `Bearer ${forge({ alg: 'HS256' }, { sub: 'someone' })}`;
      assert.equal((await request(shim.port, '/echo', { body: {}, headers: { authorization } })).status,
                   200);
    });

    it('refuses a remembered one as soon as another signature stands below it', async () => {
      const good = token();
      const ask = (t) => request(shim.port, '/echo', {
        body: {}, headers: { authorization: `Bearer ${t}` },
      });
      assert.equal((await ask(good)).status, 200);
      assert.equal((await ask(good)).status, 200);
      assertProblem(await ask(`${good.slice(0, -4)}AAAA`), 401);
    });

    it('refuses a remembered one once it has expired, and gives clocks half a minute', async () => {
      const headers = bearer({ exp: now() - 27 });
      const ask = () => request(shim.port, '/echo', { body: {}, headers });
      assert.equal((await ask()).status, 200);
      await until('it is refused', async () => (await ask()).status === 401, { limit: 8000 });
    });

    it('refuses another tenant than the token says', async () => {
      const headers = { ...bearer({ tenant_id: 'acme' }), 'x-tenant-id': 'other' };
      assertProblem(await request(shim.port, '/echo', { body: {}, headers }), 403);
      headers['x-tenant-id'] = 'acme';
      assert.equal((await request(shim.port, '/echo', { body: {}, headers })).status, 200);
    });

    it('never writes a token or the secret into the log', async () => {
      const own = token();
      await request(shim.port, '/echo', { body: {}, headers: { authorization: `Bearer ${own}` } });
      await shim.event('request');
      assert.ok(!shim.stderr.includes(own.split('.')[2]));
      assert.ok(!shim.stderr.includes(SECRET));
    });
  });

  describe('bodies', () => {
    const refused = (name, body, detail, status = 400, headers = {}) =>
      it(`refuses ${name}`, async () => {
        const problem = assertProblem(await post(body, headers), status);
        assert.match(problem.detail, detail);
      });

    refused('malformed JSON', '{"message": ', /JSON/);
    refused('two values', '{} {}', /JSON/);
    refused('duplicate keys', '{"message":"a","message":"b"}', /JSON/);
    refused('an escaped NUL in a string', '{"message":"a\\u0000b"}', /JSON/);
    refused('an escaped NUL in a key', '{"a\\u0000b":1}', /JSON/);
    refused('a lone surrogate', '{"message":"\\ud800"}', /JSON/);
    refused('invalid UTF-8', Buffer.from([0x7b, 0x22, 0x6d, 0x22, 0x3a, 0x22, 0xff, 0xfe, 0x22, 0x7d]),
            /JSON/);
    refused('overlong UTF-8', Buffer.from('7b226d223a22c0af227d', 'hex'), /JSON/);
    refused('raw NULs', Buffer.from('{"m":"\0"}'), /JSON/);
    refused('arrays 10,000 deep', `{"a":${'['.repeat(10000)}${']'.repeat(10000)}}`, /deeper/);
    refused('objects 10,000 deep', '{"a":'.repeat(10000), /deeper/);
    refused('an array', '[1,2]', /object/);
    refused('a text', '"hello"', /./);
    refused('null', 'null', /./);
    refused('a number too large', '{"n":1e999}', /JSON/);
    refused('another content type', 'a=1', /Content-Type/, 415,
            { 'content-type': 'application/x-www-form-urlencoded' });
    refused('a content type that only begins so', '{}', /Content-Type/, 415,
            { 'content-type': 'application/json5' });
    refused('another charset', '{}', /Content-Type/, 415,
            { 'content-type': 'application/json; charset=utf-16' });
    refused('a compressed body', Buffer.from('1f8b0800', 'hex'), /Content-Encoding/, 415,
            { 'content-encoding': 'gzip' });

    it('refuses a body without a content type', async () => {
      const body = '{}';
      const { answers } = await raw(shim.port,
        `POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token()}\r\n` +
        `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
      assertProblem(answers[0], 415);
    });

    it('tells each wrong field', async () => {
      const problem = assertProblem(await post({ message: 42 }), 400);
      assert.deepEqual(problem.errors.map((e) => e.field), ['message']);
      assert.match(problem.errors[0].message, /string/);
    });

    it('tells a text too long, counted in characters', async () => {
      const long = await post({ message: '🚀'.repeat(4001) });
      assert.deepEqual(assertProblem(long, 400).errors.map((e) => e.field), ['message']);
      assert.equal((await post({ message: '🚀'.repeat(4000) })).status, 200);
    });

    it('answers 413 to a body that is too large', async () => {
      const answer = await post({ a: 'x'.repeat(70000) }).catch((error) => error);
      // It is answered before the body is read; the connection may go while we still write.
      if (answer instanceof Error) assert.match(answer.code, /EPIPE|ECONNRESET/);
      else assertProblem(answer, 413, { instance: false });
    });

    it('answers 413 to a body announced as too large, once it is over', async () => {
      const { answers } = await raw(shim.port, `POST /echo HTTP/1.1\r\nHost: a\r\n` +
        `Content-Type: application/json\r\nContent-Length: 3000000\r\n\r\n${'x'.repeat(3000000)}`,
        { enough: (text) => answersIn(text).length > 0 });
      assertProblem(answers[0], 413, { instance: false });
    });

    it('answers 413 to a chunked body that grows too large', async () => {
      const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`;
      const { answers } = await raw(shim.port, 'POST /echo HTTP/1.1\r\nHost: a\r\n' +
        `Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(8)}0\r\n\r\n`,
        { enough: (text) => answersIn(text).length > 0 });
      assertProblem(answers[0], 413, { instance: false });
    });
  });

  describe('paths and methods', () => {
    for (const path of ['/nothing', '/api/chat', '/api/chat/', '/api/chatecho', '/echo/', '/echo/x',
                        '//echo/x', '/../echo', '/api/chat/api/chat/echo', '/Echo']) {
      it(`does not know ${path}`, async () => {
        const answer = await request(shim.port, path, { body: {}, headers: bearer() });
        assertProblem(answer, 404);
        assertSecured(answer);
      });
    }

    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'TRACE']) {
      it(`answers 405 to ${method} of the echo`, async () => {
        const answer = await request(shim.port, '/echo', { method, headers: bearer() });
        assertProblem(answer, 405);
        assert.deepEqual(answer.headers.allow.split(', ').sort(), ['OPTIONS', 'POST']);
      });
    }

    it('answers 405 to POST of /health', async () => {
      const answer = await request(shim.port, '/health', { body: {} });
      assertProblem(answer, 405);
      assert.deepEqual(answer.headers.allow.split(', ').sort(), ['GET', 'HEAD', 'OPTIONS']);
    });

    it('answers HEAD without a body', async () => {
      for (const path of ['/', '/health/live', '/metrics']) {
        const answer = await request(shim.port, path, { method: 'HEAD' });
        assert.equal(answer.status, 200, path);
        assert.equal(answer.text, '');
        assert.ok(Number(answer.headers['content-length']) > 0);
        assertSecured(answer);
      }
      assert.equal((await request(shim.port, '/echo', { method: 'HEAD' })).status, 405);
    });

    it('refuses a method that nobody knows', async () => {
      const { answers } = await raw(shim.port, 'BREW /echo HTTP/1.1\r\nHost: a\r\n\r\n');
      assert.ok([400, 405, 501].includes(answers[0]?.status), answers[0]?.text);
      assertProblem(answers[0], answers[0].status, { instance: false });
    });

    it('refuses CONNECT', async () => {
      const { answers, closed } = await raw(shim.port,
        'CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n',
        { enough: (text) => answersIn(text).length > 0 });
      assert.ok(closed || answers.length === 1);
      for (const answer of answers) assert.ok(answer.status >= 400, answer.text);
    });

    it('takes no segment of the path for a host', async () => {
      const { answers } = await raw(shim.port,
        'GET //health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      assertProblem(answers[0], 404);
    });
  });

  describe('CORS', () => {
    const preflight = (origin) => request(shim.port, '/api/chat/echo', {
      method: 'OPTIONS',
      headers: {
        origin, 'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
    });

    it('lets a page of the allowed origin call', async () => {
      const answer = await preflight(ORIGIN);
      assert.equal(answer.status, 204);
      assert.equal(answer.text, '');
      assert.equal(answer.headers['access-control-allow-origin'], ORIGIN);
      assert.match(answer.headers['access-control-allow-methods'], /\bPOST\b/);
      assert.match(answer.headers['access-control-allow-headers'], /authorization/i);
      assert.match(answer.headers['access-control-allow-headers'], /content-type/i);
      assert.match(answer.headers.vary, /origin/i);
      assertSecured(answer);
    });

    it('lets no page of another origin', async () => {
      for (const origin of ['https://evil.example', 'null', `${ORIGIN}.evil.example`,
                            ORIGIN.replace('https', 'http')]) {
        const answer = await preflight(origin);
        assert.equal(answer.headers['access-control-allow-origin'], undefined, origin);
      }
    });

    it('says so on answers and on problems', async () => {
      for (const headers of [bearer(), {}]) {
        const answer = await request(shim.port, '/echo', {
          body: {}, headers: { ...headers, origin: ORIGIN },
        });
        assert.equal(answer.headers['access-control-allow-origin'], ORIGIN);
        assert.match(answer.headers['access-control-expose-headers'], /x-correlation-id/i);
        const other = await request(shim.port, '/echo', {
          body: {}, headers: { ...headers, origin: 'https://evil.example' },
        });
        assert.equal(other.headers['access-control-allow-origin'], undefined);
        assert.match(other.headers.vary, /origin/i);
      }
    });

    it('answers OPTIONS without an origin by Allow', async () => {
      const answer = await request(shim.port, '/echo', { method: 'OPTIONS' });
      assert.equal(answer.status, 204);
      assert.match(answer.headers.allow, /POST/);
      assert.equal(answer.headers['access-control-allow-origin'], undefined);
    });
  });

  describe('connections', () => {
    it('are kept alive', async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ports = new Set();
      agent.on('free', (socket) => ports.add(socket.localPort));
      for (let i = 0; i < 10; i++) assert.equal((await echo(shim, { i }, { agent })).status, 200);
      assert.equal(ports.size, 1);
      agent.destroy();
    });

    it('stay after a 4xx that was readable', async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ports = new Set();
      agent.on('free', (socket) => ports.add(socket.localPort));
      assert.equal((await echo(shim, '{', { agent })).status, 400);
      assert.equal((await echo(shim, {}, { agent })).status, 200);
      assert.equal(ports.size, 1);
      agent.destroy();
    });

    it('answer pipelined requests in order', async () => {
      const one = (i) => {
        const body = JSON.stringify({ message: `pipelined ${i}` });
        return `POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token()}\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      };
      const { answers } = await raw(shim.port, Array.from({ length: 20 }, (_, i) => one(i)).join(''),
                                    { enough: (text) => answersIn(text).length === 20, limit: 15000 });
      assert.deepEqual(answers.map((a) => a.json.message),
                       Array.from({ length: 20 }, (_, i) => `pipelined ${i}`));
    });

    it('read a chunked body', async () => {
      const { answers } = await raw(shim.port,
        `POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token()}\r\n` +
        'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n' +
        '7\r\n{"messa\r\n8;x=y\r\nge":"hi"\r\n1\r\n}\r\n0\r\n\r\n');
      assert.equal(answers[0].status, 200, answers[0].text);
      assert.deepEqual(answers[0].json, { message: 'hi' });
    });

    it('read a request that comes byte by byte', async () => {
      const { default: net } = await import('node:net');
      const socket = net.connect(shim.port, '127.0.0.1');
      let text = '';
      socket.on('data', (part) => { text += part; });
      socket.setNoDelay(true);
      for (const c of 'GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n') {
        socket.write(c);
        await new Promise(setImmediate);
      }
      await until('the answer', () => answersIn(text)[0]);
      assert.equal(answersIn(text)[0].status, 200);
      socket.destroy();
    });

    it('may be left by the client at any time', async () => {
      const { default: net } = await import('node:net');
      const body = JSON.stringify({ message: 'never read' });
      const bytes = `POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token()}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      for (let i = 0; i < 40; i++) {
        const socket = net.connect(shim.port, '127.0.0.1');
        socket.on('error', () => {});
        await new Promise((resolve) => socket.once('connect', resolve));
        socket.write(bytes.slice(0, Math.ceil((bytes.length * (i + 1)) / 40)));
        if (i % 2) socket.resetAndDestroy();
        else socket.destroy();
      }
      assert.equal((await echo(shim)).status, 200);
      await until('no call is left', async () =>
        valueOf(await metricsOf(shim.port), 'rpc_calls_pending') === 0);
    });
  });

  describe('information', () => {
    it('/ says what is here', async () => {
      const answer = await request(shim.port, '/');
      assert.equal(answer.status, 200);
      const info = answer.json;
      assert.equal(info.service, 'chatfleet-gateway');
      assert.match(info.version, /^[0-9]+\.[0-9]+\.[0-9]+/);
      assert.ok(info.operations.some((o) => o.method === 'POST' && o.path === '/api/chat/echo' &&
                                            o.operation === 'system.echo'));
      assertSecured(answer);
    });

    it('/health says little to the public, and more to the fleet', async () => {
      const open = await request(shim.port, '/health');
      assert.equal(open.status, 200, open.text);
      assert.equal(open.json.status, 'healthy');
      assert.equal(open.json.service, 'chatfleet-gateway');
      assert.ok(!Number.isNaN(Date.parse(open.json.timestamp)));
      assert.equal(open.json.dependencies.rabbitmq.status, 'healthy');
      assert.deepEqual(open.json.dependencies['context-builder'], { status: 'healthy' });
      assert.deepEqual(open.json.dependencies.database, { status: 'healthy' });
      assert.ok(!open.text.includes(String(worker.pid)));

      const wrong = await request(shim.port, '/health', { headers: { 'x-internal-service-key': 'guess' } });
      assert.deepEqual(wrong.json.dependencies['context-builder'], { status: 'healthy' });

      const internal = await request(shim.port, '/health', {
        headers: { 'x-internal-service-key': INTERNAL_KEY },
      });
      const details = internal.json.dependencies['context-builder'];
      assert.equal(details.status, 'healthy');
      assert.match(details.instance, new RegExp(`^context-builder@.*:${worker.pid}$`));
      assert.equal(details.consuming, true);
      assertSecured(internal);
    });

    it('/health of many at once asks the fleet once', async () => {
      const before = valueOf(await metricsOf(worker.adminPort), 'worker_job_duration_seconds_count',
                             { operation: 'system.health' });
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => request(shim.port, '/health')));
      for (const answer of answers) assert.equal(answer.status, 200);
      const asked = valueOf(await metricsOf(worker.adminPort), 'worker_job_duration_seconds_count',
                            { operation: 'system.health' }) - before;
      assert.ok(asked <= 5, `${asked} questions for 50 probes`);
    });

    it('/health/live says that the process lives', async () => {
      const answer = await request(shim.port, '/health/live');
      assert.equal(answer.status, 200);
      assert.equal(answer.json.status, 'alive');
    });

    it('/metrics can be scraped', async () => {
      await echo(shim);
      assertProblem(await request(shim.port, '/nowhere/42'), 404);
      const answer = await request(shim.port, '/metrics');
      assert.match(answer.headers['content-type'], /^text\/plain; version=0\.0\.4/);
      const samples = await metricsOf(shim.port);
      const labels = { method: 'POST', route: '/echo', status_code: '200' };
      assert.equal(samples.types.http_request_duration_seconds, 'histogram');
      const count = valueOf(samples, 'http_request_duration_seconds_count', labels);
      assert.ok(count >= 1);
      assert.equal(valueOf(samples, 'http_request_duration_seconds_bucket', { ...labels, le: '+Inf' }),
                   count);
      const buckets = samples
        .filter((s) => s.name === 'http_request_duration_seconds_bucket' &&
                       s.labels.route === '/echo' && s.labels.status_code === '200')
        .map((s) => s.value);
      assert.deepEqual(buckets, [...buckets].sort((a, b) => a - b));
      assert.ok(!answer.text.includes('/nowhere'), 'labels carry no paths of clients');
      assert.equal(valueOf(samples, 'amqp_connection_up'), 2);
      assert.equal(valueOf(samples, 'rpc_calls_pending'), 0);
    });

    for (const name of ['gateway', 'context-builder']) {
      it(`the admin port of the ${name} tells the same`, async () => {
        const { adminPort } = name === 'gateway' ? shim : worker;
        const health = await request(adminPort, '/health');
        assert.equal(health.status, 200);
        assert.equal(health.json.status, 'healthy');
        assert.equal(health.json.service, name);
        assert.equal(health.json.dependencies.rabbitmq.status, 'healthy');
        assert.equal((await request(adminPort, '/health/live')).json.status, 'alive');
        const samples = await metricsOf(adminPort);
        assert.ok(valueOf(samples, 'process_resident_memory_bytes') > 1e6);
        if (name === 'context-builder') {
          assert.ok(valueOf(samples, 'worker_job_duration_seconds_count',
                            { operation: 'system.echo', outcome: 'replied' }) >= 1);
        }
        assertProblem(await request(adminPort, '/echo', { body: {} }), 405, { instance: false });
        assertProblem(await request(adminPort, '/nothing'), 404, { instance: false });
      });
    }
  });
});
