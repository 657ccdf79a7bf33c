// Turns over HTTP: streams, and what headers ask for. The fleet behind the shim is a script, so that
// it can misbehave.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { ScriptedFleet } from './lib/fleet.mjs';
import { House, ORIGIN } from './lib/house.mjs';
import { answersIn, metricsOf, raw, request } from './lib/http.mjs';
import { closeConnection, connections } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';
import { assertProblem, assertSecured } from './lib/problem.mjs';
import { Stream } from './lib/sse.mjs';
import { bearer, token } from './lib/token.mjs';
import { until } from './lib/wait.mjs';

const SSE = { accept: 'text/event-stream' };
const CONVERSATION = randomUUID();
const MESSAGES = `/api/chat/conversations/${CONVERSATION}/messages`;

const metric = async (shim, name, labels) => valueOf(await metricsOf(shim.adminPort), name, labels);

const nothingPends = (shim) => until('no call and no stream is left', async () =>
  await metric(shim, 'rpc_calls_pending') === 0 && await metric(shim, 'http_streams') === 0);

describe('a turn over HTTP', () => {
  let house, shim, fleet, patient, unanswered;

  before(async () => {
    house = await House.open('stream');
    const applied = await house.run('chatfleet', ['topology', 'apply']);
    assert.equal(applied.code, 0, applied.stderr);
    fleet = await ScriptedFleet.open(house);
    shim = await house.shim({
      HTTP_STREAM_PING_SECONDS: '1', HTTP_STREAM_OUTPUT_MAX_BYTES: '100000',
    });
    patient = await house.shim();
    unanswered = await askInVain(patient.port);
  });
  after(async () => {
    await fleet.close();
    await house.close();
  });

  const open = (options = {}) => Stream.open(options.port ?? shim.port, options.path ?? MESSAGES, {
    body: { content: 'Hello?' }, ...options, headers: { ...bearer(), ...SSE, ...options.headers },
  });
  const send = (options = {}) => request(options.port ?? shim.port, options.path ?? MESSAGES, {
    body: { content: 'Hello?' }, ...options, headers: { ...bearer(), ...options.headers },
  });

  // A stream that has begun, and the fleet's side of it.
  async function begin(options) {
    let opened;
    const call = await fleet.next(() => {
      opened = open(options);
      opened.catch(() => {});
    });
    call.accept();
    return { call, stream: await opened };
  }

  // Sends a request and gives the call and, later, its answer.
  async function ask(options, how = send) {
    let answered;
    const call = await fleet.next(() => {
      answered = how(options);
      answered.catch(() => {});
    });
    return { call, answered };
  }

  // Calls that nobody answers, begun now, so that their time is over when the other tests are done.
  async function askInVain(port) {
    const limit = 90000;
    const begun = await begin({ port, limit });
    begun.call.delta(0, 'So far');
    return {
      begun,
      slow: await begin({ port, limit }),
      silent: await ask({ port, limit, headers: { 'idempotency-key': 'in vain' } }),
      unread: await ask({ port, limit }, open),
      short: await ask({ port, limit, path: '/conversations', body: {} }),
    };
  }

  describe('as a stream', () => {
    it('tells the acceptance, the text as it comes, and the whole', async () => {
      const { call, stream } = await begin({ headers: { origin: ORIGIN } });
      await stream.event('message.accepted');
      call.delta(0, 'Hé');
      await stream.event('delta');
      call.delta(3, 'llo 😀');
      await stream.event('delta', 2);
      call.reply('Héllo 😀!');
      await stream.ended;

      assert.equal(stream.status, 200);
      assert.ok(stream.isStream);
      assertSecured(stream);
      assert.equal(stream.headers['x-accel-buffering'], 'no');
      assert.equal(stream.headers['access-control-allow-origin'], ORIGIN);
      assert.equal(stream.headers['x-correlation-id'], call.id);
      assert.deepEqual(stream.events, [
        { event: 'message.accepted', id: `${call.id}:1:0`, data: call.notice },
        { event: 'delta', id: `${call.id}:1:3`, data: { offset: 0, text: 'Hé' } },
        { event: 'delta', id: `${call.id}:1:11`, data: { offset: 3, text: 'llo 😀' } },
        { event: 'delta', id: `${call.id}:1:12`, data: { offset: 11, text: '!' } },
        { event: 'message.completed', id: `${call.id}:1:12`, data: call.answer('Héllo 😀!') },
      ]);
      assert.equal(call.properties.type, 'message.send');
      assert.deepEqual(call.args, { conversation_id: CONVERSATION, content: 'Hello?', stream: true });
      await nothingPends(shim);
    });

    it('comes as well from notices that were gathered with those of others', async () => {
      const [one, two] = [await begin(), await begin()];
      const gone = { properties: { correlationId: randomUUID() } };
      assert.match(one.call.properties.replyTo, /^chat\.reply\.many\./);
      one.call.gathered([
        ['delta', one.call, { text: 'Hé' }, 1, 0], ['delta', two.call, { text: 'Sal' }, 1, 0],
        ['delta', gone, { text: 'nobody' }, 1, 0], ['reply', two.call, two.call.answer('forged'), 0, 0],
        ['delta', one.call, { text: 'llo' }, 1, 3], ['delta', two.call, { text: 'ut' }, 1, 3],
      ], `delta ${two.call.properties.correlationId} 1 five\n{"text":"!"}\n`);
      await Promise.all([one, two].map(({ stream }) => stream.event('delta', 2)));
      assert.deepEqual([one.stream.text, two.stream.text], ['Héllo', 'Salut']);
      one.call.reply('Héllo');
      two.call.reply('Salut');
      await Promise.all([one.stream.ended, two.stream.ended]);
      for (const { stream } of [one, two]) {
        assert.deepEqual(stream.names, ['message.accepted', 'delta', 'delta', 'message.completed']);
      }
      await nothingPends(shim);
    });

    it('is asked for by the Accept header or by the body', async () => {
      for (const [accept, body] of [
        ['text/event-stream', {}], ['application/json;q=0.1, Text/Event-Stream;q=0.5', {}],
        [undefined, { stream: true }], ['application/json', { stream: true }],
        ['text/event-stream', { stream: true }], ['text/event-stream', { stream: false }],
      ]) {
        const { call, stream } = await begin({ headers: { accept }, body: { content: 'x', ...body } });
        call.reply('');
        await stream.ended;
        assert.ok(stream.isStream);
        assert.equal(call.args.stream, true);
        assert.deepEqual(stream.names, ['message.accepted', 'message.completed']);
      }
      for (const [accept, body] of [
        [undefined, {}], ['*/*', {}], ['application/json', { stream: false }],
        ['text/event-stream;q=0, application/json', {}], ['text/event-stream-not', {}],
      ]) {
        const { call, answered } = await ask({ headers: { accept }, body: { content: 'x', ...body } });
        call.accept(); // a worker that says what it was not asked for
        call.delta(0, 'n');
        call.reply('no stream');
        const answer = await answered;
        assert.equal(answer.headers['content-type'], 'application/json');
        assert.deepEqual(answer.json, call.answer('no stream'));
        assert.ok(!call.args.stream);
      }
    });

    it('knows regenerated answers', async () => {
      const { call, stream } = await begin({ path: `${MESSAGES}/${randomUUID()}/regenerate`, body: {} });
      call.delta(0, 'ne');
      call.reply('new');
      await stream.ended;
      assert.equal(call.properties.type, 'message.regenerate');
      assert.equal(stream.text, 'new');
      assert.deepEqual(stream.last.data, call.answer('new'));
    });

    it('is an ordinary answer when the turn fails before it begins', async () => {
      for (const status of [400, 403, 404, 409, 422, 500, 503, 504]) {
        const { call, answered } = await ask({}, open);
        call.fail(status, 'too early');
        const answer = await answered;
        await answer.ended;
        assert.equal(answer.status, status);
        assert.equal(answer.headers['content-type'], 'application/problem+json');
        assert.equal(answer.json.detail, 'too early');
        assert.equal(answer.headers['retry-after'], status === 503 ? '1' : undefined);
      }
      assertProblem(await open({ body: {} }).then(async (answer) => {
        await answer.ended;
        return { ...answer, text: answer.raw, json: answer.json };
      }), 400);
      await nothingPends(shim);
    });

    it('ends with an error event when the turn fails later', async () => {
      const { call, stream } = await begin();
      call.delta(0, 'Hel');
      call.fail(502, 'no model', { turn_id: call.id, user_message_id: 'u' });
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'error']);
      assert.equal(stream.last.data.status, 502);
      assert.equal(stream.last.data.user_message_id, 'u');
      assert.equal(stream.last.id, `${call.id}:1:3`);
    });

    it('is sent to a request that was answered before, from the answer', async () => {
      const { call, answered } = await ask({}, open);
      call.reply('long ago');
      const stream = await answered;
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'message.completed']);
      assert.deepEqual(stream.events[0].data,
                       { conversation_id: CONVERSATION, user_message: call.question });
      assert.equal(stream.text, 'long ago');
      assert.equal(stream.events[0].id, undefined); // the turn has a name that is not known here
    });

    it('has comments while nothing comes', async () => {
      const { call, stream } = await begin();
      await until('two comments', () => stream.comments >= 2);
      call.reply('late');
      await stream.ended;
      assert.equal(stream.text, 'late');
    });

    it('leaves the connection to further requests', async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const { call, stream } = await begin({ agent });
      call.reply('one');
      await stream.ended;
      const next = await begin({ agent });
      next.call.reply('two');
      await next.stream.ended;
      assert.equal(next.stream.text, 'two');
      assert.equal(next.stream.localPort, stream.localPort);
      agent.destroy();
    });

    it('is closed at its end to HTTP/1.0, and has no chunks', async () => {
      const body = '{"content":"x"}';
      let answered;
      const call = await fleet.next(() => {
        answered = raw(shim.port, `POST ${MESSAGES} HTTP/1.0\r\nAuthorization: Bearer ${token()}\r\n` +
          'Connection: keep-alive\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n' +
          `Content-Length: ${body.length}\r\n\r\n${body}`, { limit: 20000 });
      });
      call.accept();
      call.delta(0, 'a');
      call.reply('ab');
      const { text, closed } = await answered;
      assert.ok(closed);
      assert.doesNotMatch(text, /chunked|content-length/i);
      const events = text.slice(text.indexOf('\r\n\r\n') + 4);
      assert.match(events, /^event: message\.accepted\nid: /);
      assert.ok(events.endsWith('\n\n'));
      assert.equal(events.match(/^event: /gm).length, 4);
    });

    it('is for POST alone', async () => {
      for (const method of ['HEAD', 'PUT', 'DELETE', 'PATCH']) {
        const answer = await request(shim.port, MESSAGES, { method, headers: { ...bearer(), ...SSE } });
        assert.equal(answer.status, 405);
        assert.match(answer.headers.allow, /\bGET, POST\b|\bPOST, GET\b/);
      }
      const pre = await request(shim.port, MESSAGES, {
        method: 'OPTIONS', headers: { origin: ORIGIN, 'access-control-request-method': 'POST' },
      });
      for (const name of ['Idempotency-Key', 'Prefer', 'Accept', 'Last-Event-ID']) {
        assert.match(pre.headers['access-control-allow-headers'], new RegExp(`\\b${name}\\b`));
      }
    });
  });

  describe('as a stream from a fleet that misbehaves', () => {
    it('has no holes and nothing twice', async () => {
      const { call, stream } = await begin();
      call.delta(0, 'abc');
      call.delta(0, 'abc');
      call.delta(6, 'ghi'); // out of order
      call.delta(3, 'def');
      call.delta(4, 'efg'); // overlaps
      call.accept();
      call.delta(9, 'jkl'); // behind a hole
      call.say('delta', 'no JSON', { 'x-epoch': 1, 'x-offset': 7 });
      call.say('delta', { text: 'h' }, {});
      call.say('delta', { text: 'h' }, { 'x-epoch': 'one', 'x-offset': 'seven' });
      call.say('delta', { text: 'h' }, { 'x-epoch': 1, 'x-offset': -7 });
      call.reply('abcdefghijkl');
      await stream.ended;
      assert.equal(stream.text, 'abcdefghijkl');
      assert.deepEqual(stream.events.filter((e) => e.event === 'delta').map((e) => e.data.text),
                       ['abc', 'def', 'g', 'hijkl']);
      assert.equal(stream.names.filter((n) => n === 'message.accepted').length, 1);
    });

    it('begins anew with a higher epoch', async () => {
      const { call, stream } = await begin();
      call.delta(0, 'a first try');
      call.delta(0, 'a sec', 2);
      call.delta(11, ' that goes on', 1);
      call.delta(5, 'ond', 2);
      call.reply('a second try');
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'reset', 'delta', 'delta', 'delta',
                                      'message.completed']);
      assert.deepEqual(stream.events[2].data, { epoch: 2 });
      assert.equal(stream.last.id, `${call.id}:2:12`);
      assert.equal(stream.text, 'a second try');
    });

    it('tells the answer, whatever was told before', async () => {
      for (const [told, answer] of [['abc', 'abd'], ['abc', 'ab'], ['abc', ''], ['é', 'è']]) {
        const { call, stream } = await begin();
        call.delta(0, told);
        call.reply(answer);
        await stream.ended;
        assert.equal(stream.text, answer);
        assert.equal(stream.names.filter((n) => n === 'reset').length, 1);
        assert.equal(stream.last.data.assistant_message.content, answer);
      }
    });

    it('begins without a notice', async () => {
      const { call, answered } = await ask({}, open);
      call.delta(0, 'a');
      call.accept();
      call.reply('ab');
      const stream = await answered;
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'delta', 'message.completed']);
      assert.deepEqual(stream.events[0].data, { turn_id: call.id });
    });

    it('ends with an error when the answer cannot be read', async () => {
      for (const [body, headers] of [
        ['no JSON', { 'x-status': 200 }], ['[]', { 'x-status': 200 }],
        ['{"a":"\xff"}', { 'x-status': 200 }], [{}, { 'x-status': 7 }],
        [Buffer.alloc(1100000, 0x20), { 'x-status': 200 }],
      ]) {
        const { call, stream } = await begin();
        call.say('reply', typeof body === 'string' ? Buffer.from(body, 'latin1') : body, headers);
        await stream.ended;
        assert.equal(stream.last.event, 'error');
        assert.equal(stream.last.data.status, 502);
        assert.equal(stream.last.data.turn_id, call.id);
      }
    });

    it('passes over pieces that are too large', async () => {
      const { call, stream } = await begin();
      call.say('delta', { text: 'x'.repeat(1100000) }, { 'x-epoch': 1, 'x-offset': 0 });
      call.reply('x'.repeat(200000));
      await stream.ended;
      assert.equal(stream.text.length, 200000);
    });

    it('keeps line breaks within an event', async () => {
      const { call, stream } = await begin();
      call.delta(0, 'a\r\n\r\nevent: error\n');
      call.say('reply', JSON.stringify(call.answer('a\r\n\r\nevent: error\n\n'), null, 2),
               { 'x-status': 200 });
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'delta', 'message.completed']);
      assert.equal(stream.text, 'a\r\n\r\nevent: error\n\n');
    });

    it('outlives a lost connection to the broker', async () => {
      const { call, stream } = await begin();
      const [consumer] = await connections(house.vhost, `:${shim.pid} consume`, 1);
      call.delta(0, 'before');
      await stream.event('delta');
      await closeConnection(consumer.name);
      call.delta(6, ', after');
      call.reply('before, after');
      await stream.ended;
      assert.equal(stream.last.event, 'message.completed');
      assert.equal(stream.text, 'before, after');
    });
  });

  describe('whose client', () => {
    it('leaves: nothing is left behind, and the turn goes on', async () => {
      const left = await metric(shim, 'http_streams_total', { outcome: 'left' });
      const late = await metric(shim, 'rpc_replies_late_total');
      const begun = [];
      for (let i = 0; i < 20; i++) begun.push(await begin());
      for (const { call } of begun) call.delta(0, 'x');
      await Promise.all(begun.map(({ stream }) => stream.event('delta')));
      begun.forEach(({ stream }) => stream.leave());
      await until('the shim has noticed', async () =>
        await metric(shim, 'http_streams_total', { outcome: 'left' }) === left + 20);
      await nothingPends(shim);
      for (const { call } of begun) call.reply('for nobody');
      await until('the answers came in vain', async () =>
        await metric(shim, 'rpc_replies_late_total') === late + 20);
    });

    it('leaves before anything was sent', async () => {
      const left = await metric(shim, 'http_streams_total', { outcome: 'left' });
      const body = '{"content":"x"}';
      const socket = net.connect(shim.port, '127.0.0.1');
      const call = await fleet.next(() => socket.write(
        `POST ${MESSAGES} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token()}\r\n` +
        'Accept: text/event-stream\r\nContent-Type: application/json\r\n' +
        `Content-Length: ${body.length}\r\n\r\n${body}`));
      socket.destroy();
      call.accept();
      await until('the shim has noticed', async () =>
        await metric(shim, 'http_streams_total', { outcome: 'left' }) === left + 1);
      await nothingPends(shim);
    });

    it('reads too slowly: it is cut off', async () => {
      const slow = await metric(shim, 'http_streams_total', { outcome: 'slow' });
      const { call, stream } = await begin();
      const piece = 'x'.repeat(500000);
      let epoch = 1;
      stream.response.pause();
      await until('it is cut off', async () => {
        for (let i = 0; i < 4; i++) call.delta(0, piece, ++epoch);
        return await metric(shim, 'http_streams_total', { outcome: 'slow' }) === slow + 1;
      });
      const cut = assert.rejects(stream.ended);
      stream.response.resume();
      await cut;
      assert.ok(!stream.names.includes('message.completed'));
      await nothingPends(shim);
    });

    it('is one of a thousand', { timeout: 120000 }, async () => {
      const words = ['one ', 'two ', 'three'];
      fleet.script = (call) => {
        call.accept();
        words.reduce((offset, word) => {
          call.delta(offset, word);
          return offset + word.length;
        }, 0);
        call.reply(words.join(''));
      };
      const streams = await Promise.all(Array.from({ length: 1000 }, () => open({ limit: 90000 })));
      await Promise.all(streams.map((stream) => stream.ended));
      fleet.script = () => {};
      for (const stream of streams) {
        assert.equal(stream.text, 'one two three');
        assert.deepEqual(stream.names, ['message.accepted', 'delta', 'delta', 'delta',
                                        'message.completed']);
      }
      assert.equal(new Set(streams.map((stream) => stream.last.id)).size, 1000);
    });
  });

  describe('and its headers', () => {
    before(() => unanswered.slow.call.delta(0, 'Slow')); // long after the acceptance

    it('passes an idempotency key on', async () => {
      for (const key of ['k', randomUUID(), '"quoted"', ' ~!a b', 'x'.repeat(255)]) {
        const { call, answered } = await ask({ headers: { 'idempotency-key': key } });
        call.reply('once');
        assert.equal((await answered).status, 200);
        assert.equal(call.headers['x-idempotency-key'], key.trim());
      }
      const { call, answered } = await ask({});
      call.reply('once');
      await answered;
      assert.equal(call.headers['x-idempotency-key'], undefined);
    });

    it('refuses a key that is none', async () => {
      for (const key of ['', 'x'.repeat(256), 'a\tb', Buffer.from('ké').toString('latin1')]) {
        const problem = assertProblem(await send({ headers: { 'idempotency-key': key } }), 400);
        assert.match(problem.detail, /Idempotency-Key/);
      }
    });

    it('says when to come again while an earlier request is under way', async () => {
      for (const [headers, after] of [[{ 'idempotency-key': 'k' }, '1'], [{}, undefined]]) {
        const { call, answered } = await ask({ headers });
        call.fail(409);
        const answer = await answered;
        assert.equal(answer.status, 409);
        assert.equal(answer.headers['retry-after'], after);
      }
    });

    it('takes Prefer: respond-async', async () => {
      for (const prefer of ['respond-async', 'wait=5, Respond-Async; x=y']) {
        const { call, answered } = await ask({ headers: { prefer, origin: ORIGIN } });
        call.say('reply', call.notice, { 'x-status': 202 });
        const answer = await answered;
        assert.equal(answer.status, 202);
        assert.equal(call.args.async, true);
        assert.equal(answer.headers.location, `/api/chat/turns/${call.id}`);
        assert.equal(answer.headers['preference-applied'], 'respond-async');
        assert.match(answer.headers['access-control-expose-headers'], /\bLocation\b/);
        assert.match(answer.headers['access-control-expose-headers'], /\bPreference-Applied\b/);
        assert.deepEqual(answer.json, call.notice);
      }
      const { call, answered } = await ask({ body: { content: 'x', async: true } });
      call.say('reply', call.notice, { 'x-status': 202 });
      const answer = await answered;
      assert.equal(answer.headers.location, `/api/chat/turns/${call.id}`);
      assert.equal(answer.headers['preference-applied'], undefined);
    });

    it('refuses to stream what is not waited for', async () => {
      for (const [headers, body] of [
        [{ ...SSE, prefer: 'respond-async' }, {}], [{}, { stream: true, async: true }],
        [SSE, { async: true }], [{ prefer: 'respond-async' }, { stream: true }],
      ]) {
        const problem = assertProblem(await send({ headers, body: { content: 'x', ...body } }), 400);
        assert.equal(problem.errors[0].field, 'async');
      }
      // What no flag is stays wrong, whatever the headers ask for.
      const problem = assertProblem(await send({ headers: SSE, body: { content: 'x', stream: 'x' } }),
                                    400);
      assert.equal(problem.errors[0].field, 'stream');
    });

    it('says where a new conversation is', async () => {
      const { call, answered } = await ask({
        path: '/conversations', body: {}, headers: { ...SSE, prefer: 'respond-async' },
      });
      call.say('reply', { id: call.id, title: 'x' }, { 'x-status': 201 });
      const answer = await answered;
      assert.equal(answer.status, 201);
      assert.equal(answer.headers.location, `/api/chat/conversations/${call.id}`);
      assert.deepEqual(call.args, {}); // it knows neither streams nor async
    });

    it('sends no body with 204', async () => {
      const { call, answered } = await ask({}, () => request(shim.port,
        `/api/chat/conversations/${CONVERSATION}`, { method: 'DELETE', headers: bearer() }));
      call.say('reply', { deleted: true }, { 'x-status': 204 });
      const answer = await answered;
      assert.equal(answer.status, 204);
      assert.equal(answer.text, '');
      assert.equal(answer.headers['content-type'], undefined);
      const two = await raw(shim.port, // the next answer begins where it should
        `OPTIONS ${MESSAGES} HTTP/1.1\r\nHost: a\r\n\r\n` +
        `GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
      assert.deepEqual(two.answers.map(({ status }) => status), [204, 200]);
      assert.equal(answersIn(two.text).length, 2);
    });
  });

  describe('that nobody answers', { timeout: 100000 }, () => {
    const assertOpen = (problem, call) => {
      assert.equal(problem.status, 504);
      assert.equal(problem.turn_id, call.id);
      assert.equal(problem.status_url, `/api/chat/turns/${call.id}`);
      assert.match(problem.detail, /the outcome is open/);
      assert.match(problem.detail, /Idempotency-Key/);
      assert.ok(problem.detail.includes(problem.status_url));
    };

    it('ends with 504 for a write that is no turn', async () => {
      const problem = assertProblem(await unanswered.short.answered, 504);
      assert.match(problem.detail, /the outcome is open/);
      assert.match(problem.detail, /Idempotency-Key/);
      assert.equal(problem.turn_id, undefined);
    });

    it('ends its stream with an error that names it', async () => {
      const { call, stream } = unanswered.begun;
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'error']);
      assertOpen(stream.last.data, call);
    });

    it('is an ordinary 504 before its stream began', async () => {
      const answer = await unanswered.unread.answered;
      await answer.ended;
      assert.equal(answer.status, 504);
      assert.equal(answer.headers['content-type'], 'application/problem+json');
      assertOpen(answer.json, unanswered.unread.call);
      assert.match(answer.json.detail, /had none/);
    });

    it('is an ordinary 504 without a stream', async () => {
      const answer = await unanswered.silent.answered;
      assertOpen(assertProblem(answer, 504), unanswered.silent.call);
      assert.match(answer.json.detail, /is safe$/);
    });

    it('but speaks, is waited for longer', async () => {
      const { call, stream } = unanswered.slow; // begun before the others, whose time is over
      assert.deepEqual(stream.names, ['message.accepted', 'delta']);
      call.reply('Slow, but there');
      await stream.ended;
      assert.equal(stream.text, 'Slow, but there');
      assert.equal(stream.last.event, 'message.completed');
      await nothingPends(patient);
    });
  });
});

describe('a shim that ends', () => {
  let house, fleet;

  before(async () => {
    house = await House.open('stream-drain');
    assert.equal((await house.run('chatfleet', ['topology', 'apply'])).code, 0);
    fleet = await ScriptedFleet.open(house);
  });
  after(async () => {
    await fleet.close();
    await house.close();
  });

  async function begin(shim) {
    let opened;
    const call = await fleet.next(() => {
      opened = Stream.open(shim.port, MESSAGES, {
        body: { content: 'x' }, headers: { ...bearer(), ...SSE },
        agent: new http.Agent({ keepAlive: true }),
      });
    });
    call.accept();
    const stream = await opened;
    await stream.event('message.accepted');
    return { call, stream };
  }

  it('waits for its streams', async () => {
    const shim = await house.shim();
    const { call, stream } = await begin(shim);
    shim.signal('SIGTERM');
    await shim.event('draining');
    call.delta(0, 'while it drains');
    await stream.event('delta');
    assert.equal(shim.ended, undefined);
    call.reply('while it drains, to the end');
    await stream.ended;
    assert.equal(stream.text, 'while it drains, to the end');
    await shim.stop();
  });

  it('ends those that last longer than it may wait', async () => {
    const shim = await house.shim({ DRAIN_TIMEOUT_SECONDS: '1' });
    const { call, stream } = await begin(shim);
    shim.signal('SIGTERM');
    await stream.ended;
    assert.equal(stream.last.event, 'error');
    assert.equal(stream.last.data.status, 503);
    assert.equal(stream.last.data.turn_id, call.id);
    assert.match(stream.last.data.detail, /the outcome is open/);
    await shim.stop();
  });
});
