// The fleet as a caller in any language sees it, without HTTP.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { readAnswer } from './lib/amqp.mjs';
import { House } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { uuid5 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const WORK = 'context-builder';
const DLQ = 'context-builder.dlq';
const HELD = 'context-builder.retry.5s';
const UUID5 = /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('amqp', () => {
  let house, worker, caller;

  before(async () => {
    house = await House.open('amqp');
    worker = await house.worker({ MAX_MESSAGE_BYTES: '65536' });
    caller = await house.caller();
  });
  after(() => house.close());

  const jobs = async (labels) => valueOf(await metricsOf(worker.adminPort), 'worker_job_duration_seconds_count', labels);
  const empty = (queue) => until(`${queue} is empty`, async () =>
    (await house.count(queue)).messageCount === 0);

  // What every dead letter tells, beside all that it was.
  function assertDeadLetter(message, { error, status }) {
    const headers = message.properties.headers;
    assert.equal(headers['x-error-kind'], status ?? 'fatal');
    assert.match(headers['x-error'], error);
    assert.match(headers['x-failed-by'], new RegExp(`^context-builder@.+:${worker.pid}$`));
    assert.equal(headers['x-queue'], WORK);
    for (const name of ['x-failed-at', 'x-first-failed-at']) {
      assert.ok(Math.abs(Date.parse(headers[name]) - Date.now()) < 60000, `${name}: ${headers[name]}`);
    }
    assert.match(headers['x-dead-letter-id'], /^[0-9a-f-]{36}$/);
    return headers;
  }

  describe('a call', () => {
    it('is answered', async () => {
      const correlationId = 'any text that the caller likes';
      const answer = await caller.call('system.echo', { message: 'grüße 🚀' }, { correlationId });
      assert.equal(answer.type, 'reply');
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.body, { message: 'grüße 🚀' });
      assert.equal(answer.properties.correlationId, correlationId);
      assert.equal(answer.properties.contentType, 'application/json');
      assert.equal(answer.properties.deliveryMode, 1, 'replies are transient');
      assert.match(answer.properties.appId, new RegExp(`^context-builder@.+:${worker.pid}$`));
      assert.ok(Math.abs(answer.properties.timestamp - Date.now() / 1000) < 60);
      assert.equal(answer.headers['x-version'], 1);
    });

    it('gets an answer whose id follows from its own', async () => {
      const messageId = randomUUID();
      const ids = [];
      for (let i = 0; i < 2; i++) {
        ids.push((await caller.call('system.echo', { i }, { messageId })).properties.messageId);
      }
      assert.match(ids[0], UUID5);
      assert.deepEqual(ids, [uuid5(messageId, 'reply'), uuid5(messageId, 'reply')]);
    });

    it('carries its trace to the answer', async () => {
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      const answer = await caller.call('system.echo', {}, { headers: { traceparent } });
      assert.equal(answer.headers.traceparent, traceparent);
    });

    it('needs no more than a type and a body', async () => {
      const answer = await caller.call('system.echo', {}, {
        messageId: null, timestamp: null, contentType: null, persistent: false,
        headers: { 'x-user-id': undefined, 'x-tenant-id': undefined },
      });
      assert.equal(answer.status, 200);
    });

    it('of system.health is answered', async () => {
      const answer = await caller.call('system.health', {});
      assert.equal(answer.status, 200);
      assert.equal(answer.body.kind, 'context-builder');
      assert.equal(answer.body.status, 'healthy');
      assert.match(answer.body.instance, new RegExp(`:${worker.pid}$`));
    });

    it('is one of a thousand in flight, and each gets its own', async () => {
      const answers = await Promise.all(Array.from({ length: 1000 }, (_, i) =>
        caller.call('system.echo', { message: String(i) })));
      answers.forEach((answer, i) => assert.equal(answer.body.message, String(i)));
      await empty(WORK);
    });

    it('with a body of many frames comes back whole', async () => {
      const text = 'x'.repeat(60000);
      const answer = await caller.call('system.echo', { text });
      assert.equal(answer.body.text, text);
    });

    it('without anybody to answer is carried out and gone', async () => {
      const before_ = await jobs({ operation: 'system.echo', outcome: 'replied' });
      await caller.send('system.echo', { message: 'no reply wanted' }, { replyTo: null });
      await until('it was done', async () =>
        await jobs({ operation: 'system.echo', outcome: 'replied' }) === before_ + 1);
      assert.deepEqual(await caller.takeAll(DLQ), []);
    });

    it('whose caller has gone is done with', async () => {
      const other = await house.caller();
      const gone = other.replyTo;
      await other.close();
      await caller.send('system.echo', { message: 'too late' }, { replyTo: gone });
      await until('the answer came back', async () =>
        valueOf(await metricsOf(worker.adminPort), 'worker_replies_undelivered_total') === 1);
      await empty(WORK);
      assert.equal(valueOf(await metricsOf(worker.adminPort), 'worker_jobs_in_flight'), 0);
      assert.deepEqual(await caller.takeAll(DLQ), []);
    });

    it('with a forged reply_to that ends the connection stops nobody', async () => {
      const before_ = await jobs({ operation: 'system.echo', outcome: 'replied' });
      await caller.send('system.echo', {}, { replyTo: 'amq.rabbitmq.reply-to.x.y' });
      await until('it was given up', async () =>
        await jobs({ operation: 'system.echo', outcome: 'replied' }) === before_ + 1);
      assert.equal((await caller.call('system.echo', {})).status, 200);
    });

    it('of an operation that nobody serves comes back at once', async () => {
      const count = caller.returned.length;
      await caller.send('conversation.invent', {});
      await until('it is returned', () => caller.returned.length > count);
      assert.equal(caller.returned[count].fields.replyCode, 312);
      assert.equal(caller.returned[count].fields.routingKey, 'conversation.invent');
    });
  });

  describe('wrong arguments', () => {
    it('are answered as a problem, field by field', async () => {
      const correlationId = randomUUID();
      const answer = await caller.call('system.echo', { message: 42 }, { correlationId });
      assert.equal(answer.type, 'error');
      assert.equal(answer.status, 400);
      assert.equal(answer.body.status, 400);
      assert.equal(answer.body.type, 'about:blank');
      assert.equal(answer.body.title, 'Bad Request');
      assert.equal(answer.body.error, 'Bad Request');
      assert.equal(answer.body.instance, correlationId);
      assert.deepEqual(answer.body.errors.map((e) => e.field), ['message']);
      assert.deepEqual(await caller.takeAll(DLQ), [], 'who asked was told; nothing is kept');
    });

    it('of nobody who asked are kept with their cause', async () => {
      await caller.send('system.echo', { message: 42 }, { replyTo: null });
      assertDeadLetter(await caller.take(DLQ), {
        error: /^system\.echo: the arguments are not valid: message must be a string$/, status: 'reject',
      });
    });

    it('and a reply_to of the fleet itself is not delivered there', async () => {
      for (const replyTo of [WORK, DLQ, HELD]) {
        await caller.send('system.echo', { message: 'loop' }, { replyTo });
        const dead = await caller.take(DLQ);
        assertDeadLetter(dead, { error: /reply_to/, status: 'reject' });
        assert.equal(dead.properties.type, 'system.echo');
        assert.equal(dead.properties.replyTo, replyTo);
        await empty(WORK);
        await empty(DLQ);
      }
    });
  });

  describe('what cannot be read', () => {
    const unreadable = (name, body, properties, error, status = 400) => {
      it(`${name} goes to the dead letters whole, and is answered`, async () => {
        const headers = {
          'x-user-id': 'someone', 'x-tenant-id': 'acme', text: 'grüße', number: -7, big: 2 ** 40,
          real: 1.5, yes: true, nothing: null,
          nested: { list: [1, 'two', { three: [true] }], table: { deep: { deeper: 'x' } } },
          when: { '!': 'timestamp', value: 1700000000 }, bytes: Buffer.from([0, 1, 255]),
        };
        const options = {
          correlationId: randomUUID(), messageId: randomUUID(), priority: 3, appId: 'the test',
          timestamp: 1700000000, expiration: '600000', contentType: 'application/json', headers,
          key: 'system.echo', ...properties,
        };
        const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body);
        const answer = await caller.call('system.echo', bytes, options);
        assert.equal(answer.type, 'error');
        assert.equal(answer.status, status);
        assert.match(answer.body.detail, error);

        const dead = await caller.take(DLQ);
        const given = assertDeadLetter(dead, { error });
        assert.deepEqual(dead.content, bytes);
        for (const [key, value] of Object.entries(headers)) assert.deepEqual(given[key], value, key);
        const p = dead.properties;
        assert.equal(p.correlationId, options.correlationId);
        assert.equal(p.messageId, options.messageId);
        assert.equal(p.replyTo, caller.replyTo);
        assert.equal(p.priority, 3);
        assert.equal(p.appId, 'the test');
        assert.equal(p.timestamp, 1700000000);
        assert.equal(p.contentType, 'application/json');
        assert.equal(p.contentEncoding, options.contentEncoding);
        assert.equal(p.type, options.type === null ? undefined : options.type ?? 'system.echo');
        assert.equal(p.deliveryMode, 2, 'dead letters are persistent');
        await empty(WORK);
      });
    };

    unreadable('what is no JSON', '{"message":', {}, /JSON/);
    unreadable('bytes', Buffer.from([0xff, 0x00, 0x80]), {}, /JSON/);
    unreadable('nothing', '', {}, /JSON/);
    unreadable('an array', '[1]', {}, /object/);
    unreadable('deep JSON', `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`, {}, /deeper/);
    unreadable('duplicate keys', '{"a":1,"a":2}', {}, /JSON/);
    unreadable('a message without a type', '{}', { type: null }, /type/);
    unreadable('an unknown type', '{}', { type: 'system.nonsense' }, /system\.nonsense/, 404);
    unreadable('a compressed body', Buffer.from('1f8b08', 'hex'), { contentEncoding: 'gzip' },
               /encoding/, 415);

    it('is kept under the same id however often it fails', async () => {
      const messageId = randomUUID();
      const ids = [];
      for (let i = 0; i < 2; i++) {
        await caller.send('system.echo', Buffer.from('?'), { messageId, replyTo: null });
        ids.push((await caller.take(DLQ)).properties.headers['x-dead-letter-id']);
      }
      assert.match(ids[0], UUID5);
      assert.equal(ids[0], ids[1]);
    });

    it('keeps the time of its first failure when it is replayed and fails again', async () => {
      const first = '2026-01-02T03:04:05.678Z';
      await caller.send('system.echo', Buffer.from('?'), {
        replyTo: null, headers: { 'x-first-failed-at': first },
      });
      const { headers } = (await caller.take(DLQ)).properties;
      assert.equal(headers['x-first-failed-at'], first);
      assert.notEqual(headers['x-failed-at'], first);
    });

    it('is not complained of to a queue of the fleet', async () => {
      await caller.send('system.echo', Buffer.from('?'), { replyTo: DLQ, type: null, key: 'system.echo' });
      const dead = await caller.take(DLQ);
      assert.match(dead.properties.headers['x-error'], /reply_to/);
      await empty(WORK);
      assert.deepEqual(await caller.takeAll(DLQ), []);
    });

    it('goes nowhere else, whatever its CC says', async () => {
      const dead = await jobs({ outcome: 'dead-lettered' });
      await caller.send('system.echo', Buffer.from('?'), {
        replyTo: null, headers: { CC: [WORK, HELD] },
      });
      await caller.take(DLQ);
      assert.equal(await jobs({ outcome: 'dead-lettered' }), dead + 1);
      assert.deepEqual(await caller.takeAll(HELD), []);
    });

    it('can be replayed as it was', async () => {
      await caller.send('system.echo', { message: 'wrong type' }, { type: null, key: 'system.echo' });
      const dead = await caller.take(DLQ);
      await until('the problem came', () => caller.replies.some((m) =>
        m.properties.correlationId === dead.properties.correlationId));
      const answer = await caller.call('system.echo', dead.content, {
        ...dead.properties, type: 'system.echo', correlationId: randomUUID(),
      });
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.body, { message: 'wrong type' });
    });

    it('does not stop what comes behind it', async () => {
      const bad = Array.from({ length: 50 }, () =>
        caller.send('system.echo', Buffer.from('{'), { replyTo: null }));
      const good = Array.from({ length: 50 }, (_, i) => caller.call('system.echo', { i }));
      for (const answer of await Promise.all(good)) assert.equal(answer.status, 200);
      await Promise.all(bad);
      await until('all are dead letters', async () => (await house.count(DLQ)).messageCount === 50);
      assert.equal((await caller.takeAll(DLQ)).length, 50);
    });

    it('because it is too large stays whole, and is answered', async () => {
      const body = Buffer.from(JSON.stringify({ message: 'x'.repeat(200000) }));
      const answer = await caller.call('system.echo', body, { headers: { mine: 'kept' } });
      assert.equal(answer.status, 413);
      const dead = await caller.take(DLQ);
      assert.ok(dead.content.equals(body));
      assert.equal(dead.properties.headers.mine, 'kept');
      assert.equal(dead.properties.headers['x-death'][0].reason, 'rejected');
      assert.equal(dead.properties.headers['x-death'][0].queue, WORK);
      assert.equal((await caller.call('system.echo', { after: true })).status, 200);
    });
  });

  describe('deadlines', () => {
    it('that have passed make a read vanish', async () => {
      const late = await jobs({ operation: 'system.echo', outcome: 'late' });
      const correlationId = randomUUID();
      await caller.send('system.echo', {}, {
        correlationId, headers: { 'x-deadline': Date.now() - 1000 },
      });
      await until('it was dropped', async () =>
        await jobs({ operation: 'system.echo', outcome: 'late' }) === late + 1);
      await caller.call('system.echo', {}); // what comes behind it
      assert.ok(!caller.replies.some((m) => m.properties.correlationId === correlationId));
      assert.deepEqual(await caller.takeAll(DLQ), []);
    });

    it('to come do not matter', async () => {
      const headers = { 'x-deadline': Date.now() + 60000 };
      assert.equal((await caller.call('system.echo', {}, { headers })).status, 200);
    });
  });

  describe('a version that is not known', () => {
    it('is held, and comes back', async () => {
      const held = await jobs({ outcome: 'held' });
      const correlationId = randomUUID();
      await caller.send('system.echo', { message: 'from the future' }, {
        correlationId, headers: { 'x-version': 99, mine: { nested: [1] } },
      });
      await until('it stands in the delay queue', async () => {
        assert.equal((await house.count(DLQ)).messageCount, 0);
        return (await house.count(HELD)).messageCount === 1;
      });
      assert.equal(await jobs({ outcome: 'held' }), held + 1);
      await until('it came back and was held again', async () =>
        await jobs({ outcome: 'held' }) === held + 2, { limit: 30000 });
      assert.ok(!caller.replies.some((m) => m.properties.correlationId === correlationId));
      // A worker of the newer kind would find it as it was.
      const message = await caller.take(HELD);
      assert.deepEqual(JSON.parse(message.content), { message: 'from the future' });
      assert.equal(message.properties.headers['x-version'], 99);
      assert.deepEqual(message.properties.headers.mine, { nested: [1] });
      assert.equal(message.properties.type, 'system.echo');
      assert.deepEqual(await caller.takeAll(DLQ), []);
    });

    it('waits longer after a minute, and for a person after a day', async () => {
      const { messageCount } = await house.count(`${WORK}.retry.5m`);
      await caller.send('system.echo', {}, { headers: { 'x-version': 99, 'x-held': 12 } });
      await until('it waits longer', async () =>
        (await house.count(`${WORK}.retry.5m`)).messageCount === messageCount + 1);

      const answer = await caller.call('system.echo', {}, { headers: { 'x-version': 99, 'x-held': 300 } });
      assert.equal(answer.status, 501);
      const letters = await caller.takeAll(DLQ);
      assert.equal(letters.length, 1);
      assert.equal(letters[0].properties.headers['x-error-kind'], 'fatal');
      assert.match(letters[0].properties.headers['x-error'], /version 99/);
    });

    it('is told by a number that no worker can be of', async () => {
      const held = await jobs({ outcome: 'held' });
      await caller.send('system.echo', {}, { headers: { 'x-version': 0, CC: [WORK] } });
      await until('it was held', async () => await jobs({ outcome: 'held' }) === held + 1);
      const { headers } = (await caller.take(HELD)).properties;
      assert.equal(headers.CC, undefined, 'else the broker would route a copy by it, at once');
    });
  });

  it('answers nothing but replies and errors', () => {
    for (const message of caller.replies) {
      const answer = readAnswer(message);
      assert.ok(['reply', 'error'].includes(answer.type), answer.type);
      assert.equal(answer.type === 'error', answer.status >= 400);
    }
  });
});
