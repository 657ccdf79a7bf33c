// What callers see when parts of the fleet are missing, hang, die or lose the broker.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, afterEach, describe, it } from 'node:test';
import { readAnswer } from './lib/amqp.mjs';
import { echo, House } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { closeConnection, connections, management } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';
import { assertProblem } from './lib/problem.mjs';
import { until } from './lib/wait.mjs';

const WORK = 'context-builder';

const timed = async (promise) => {
  const started = Date.now();
  const answer = await promise;
  return { answer, ms: Date.now() - started };
};
const pending = async (shim) => valueOf(await metricsOf(shim.port), 'rpc_calls_pending');

describe('a fleet without workers', () => {
  let house, shim;

  before(async () => {
    house = await House.open('nobody');
    shim = await house.shim();
  });
  after(() => house.close());

  it('says 501 when there never was one', async () => {
    const { answer, ms } = await timed(echo(shim));
    assertProblem(answer, 501);
    assert.ok(ms < 1500, `${ms} ms`);
    assert.equal(await pending(shim), 0);
  });

  it('is degraded within a second', async () => {
    const { answer, ms } = await timed(request(shim.port, '/health'));
    assert.equal(answer.status, 503);
    assert.equal(answer.json.status, 'degraded');
    assert.equal(answer.json.dependencies.rabbitmq.status, 'healthy');
    assert.equal(answer.json.dependencies['context-builder'].status, 'unhealthy');
    assert.ok(ms < 2500, `${ms} ms`);
    // The shim itself is well, whatever the fleet lacks.
    assert.equal((await request(shim.adminPort, '/health')).status, 200);
    assert.equal((await request(shim.port, '/health/live')).status, 200);
  });

  it('says 503 at once when the last one has left', async () => {
    const worker = await house.worker();
    await house.answers(shim);
    await worker.stop();
    await until('the shim has noticed', async () => (await echo(shim)).status === 503);
    const { answer, ms } = await timed(echo(shim));
    assertProblem(answer, 503);
    assert.ok(ms < 1000, `${ms} ms`);
    const health = await timed(request(shim.port, '/health'));
    assert.equal(health.answer.status, 503);
    assert.ok(health.ms < 2500, `${health.ms} ms`);
    assert.equal(await pending(shim), 0);
    const next = await house.worker();
    await house.answers(shim);
    await next.stop();
  });
});

describe('a worker that hangs', () => {
  let house, shim, worker;

  before(async () => {
    house = await House.open('hangs');
    [shim, worker] = await Promise.all([house.shim(), house.worker()]);
    await house.answers(shim);
  });
  after(() => house.close());

  it('makes 504 at the deadline, and leaks nothing', async () => {
    worker.signal('SIGSTOP');
    const asked = await Promise.all(Array.from({ length: 20 }, () => timed(echo(shim))));
    for (const { answer, ms } of asked) {
      assertProblem(answer, 504);
      assert.ok(ms >= 4900 && ms < 8000, `${ms} ms`);
    }
    assert.equal(await pending(shim), 0);
    const health = await timed(request(shim.port, '/health'));
    assert.equal(health.answer.status, 503);
    assert.ok(health.ms < 2500, `${health.ms} ms`);

    worker.signal('SIGCONT');
    await house.answers(shim);
    // Reads whose deadline is over are dropped by the worker that finds them.
    await until('they were dropped', async () =>
      valueOf(await metricsOf(worker.adminPort), 'worker_job_duration_seconds_count', { outcome: 'late' }) >= 1);
    assert.equal(await pending(shim), 0);
  });

  it('that answers too late is counted, and not taken for another', async () => {
    const caller = await house.caller();
    const replyQueue = (await management('GET', `/queues/${encodeURIComponent(house.vhost)}`))
      .find((q) => q.name.startsWith('chat.reply.')).name;
    const before_ = valueOf(await metricsOf(shim.port), 'rpc_replies_late_total');
    for (const correlationId of [randomUUID(), 'short', undefined]) {
      caller.channel.sendToQueue(replyQueue, Buffer.from('{"message":"late"}'), {
        type: 'reply', correlationId, headers: { 'x-status': 200 },
      });
    }
    await until('they were counted', async () =>
      valueOf(await metricsOf(shim.port), 'rpc_replies_late_total') === before_ + 3);
    assert.equal((await echo(shim)).status, 200);
  });
});

describe('a false worker', () => {
  let house, shim, caller, answerWith;

  before(async () => {
    house = await House.open('false');
    assert.equal((await house.run('chatfleet', ['topology', 'apply'])).code, 0);
    caller = await house.caller();
    await caller.channel.consume(WORK, (message) => {
      const answer = answerWith(message);
      if (answer) {
        caller.channel.sendToQueue(message.properties.replyTo, answer.body, {
          correlationId: message.properties.correlationId, ...answer.properties,
        });
      }
      caller.channel.ack(message);
    });
    shim = await house.shim({ MAX_MESSAGE_BYTES: '65536' });
  });
  after(() => house.close());

  it('sees what the shim states: identity, deadline, trace, version', async () => {
    let seen;
    answerWith = (message) => {
      seen = message;
      return { body: Buffer.from('{}'), properties: { type: 'reply', headers: { 'x-status': 200 } } };
    };
    const { bearer } = await import('./lib/token.mjs');
    const sub = randomUUID();
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const answer = await request(shim.port, '/echo', {
      body: { message: 'x' },
      headers: {
        ...bearer({ sub, tenant_id: 'acme', roles: ['user', 'admin'], scope: 'chat' }), traceparent,
      },
    });
    assert.equal(answer.status, 200);
    const { properties: p, fields } = seen;
    assert.equal(fields.exchange, 'chat.rpc');
    assert.equal(fields.routingKey, 'system.echo');
    assert.equal(p.type, 'system.echo');
    assert.equal(p.contentType, 'application/json');
    assert.equal(p.correlationId, answer.headers['x-correlation-id']);
    assert.match(p.messageId, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    assert.match(p.replyTo, /^chat\.reply\./);
    assert.match(p.appId, /^gateway@/);
    assert.equal(p.headers['x-user-id'], sub);
    assert.equal(p.headers['x-tenant-id'], 'acme');
    assert.equal(p.headers['x-roles'], 'user,admin');
    assert.equal(p.headers['x-scope'], 'chat');
    assert.equal(p.headers['x-version'], 1);
    assert.equal(p.headers.traceparent, traceparent);
    assert.ok(p.headers['x-deadline'] > Date.now() && p.headers['x-deadline'] < Date.now() + 6000);
    assert.deepEqual(JSON.parse(seen.content), { message: 'x' });
  });

  it('that answers with a problem is passed on as one', async () => {
    answerWith = () => ({
      body: Buffer.from('{"type":"about:blank","title":"Conflict","status":409}'),
      properties: { type: 'error', headers: { 'x-status': 409 } },
    });
    const answer = await echo(shim);
    assert.equal(answer.status, 409);
    assert.match(answer.headers['content-type'], /^application\/problem\+json/);
  });

  for (const [name, answer] of [
    ['a status that is none', { properties: { type: 'reply', headers: { 'x-status': 42 } } }],
    ['a status out of bounds', { properties: { type: 'reply', headers: { 'x-status': 70000 } } }],
    ['an answer that is too large', { body: Buffer.alloc(100000, 'x'), properties: { type: 'reply' } }],
  ]) {
    it(`that gives ${name} makes 502`, async () => {
      answerWith = () => ({ body: Buffer.from('{}'), ...answer });
      assertProblem(await echo(shim), 502);
      assert.equal(await pending(shim), 0);
      assert.equal(valueOf(await metricsOf(shim.port), 'rpc_replies_oversized_total'), answer.body ? 1 : 0);
    });
  }

  it('that answers twice does no harm', async () => {
    answerWith = (message) => {
      for (let i = 0; i < 2; i++) {
        caller.channel.sendToQueue(message.properties.replyTo, message.content, {
          correlationId: message.properties.correlationId, type: 'reply', headers: { 'x-status': 200 },
        });
      }
    };
    for (let i = 0; i < 5; i++) assert.deepEqual((await echo(shim, { i })).json, { i });
  });

  it('that never answers costs no more than its callers', async () => {
    answerWith = () => undefined;
    const { answer, ms } = await timed(echo(shim));
    assertProblem(answer, 504);
    assert.ok(ms < 8000, `${ms} ms`);
    assert.equal(await pending(shim), 0);
  });
});

describe('a worker that dies', () => {
  let house, caller;

  beforeEach(async () => {
    house = await House.open('dies');
    caller = await house.caller();
  });
  afterEach(() => house.close());

  it('with messages in hand loses none: another one gets them', async () => {
    const worker = await house.worker({ PREFETCH: '100' });
    worker.signal('SIGSTOP');
    const ids = [];
    for (let i = 0; i < 150; i++) ids.push(await caller.send('system.echo', { i }));
    // The stopped one has its prefetch in hand, and does nothing with it.
    await until('100 are in its hands', async () => (await house.count(WORK)).messageCount === 50);
    await worker.kill();
    const next = await house.worker();
    await until('all were answered', () => new Set(caller.replies.map((m) =>
      m.properties.correlationId)).size === ids.length);
    assert.deepEqual(caller.replies.map((m) => m.properties.correlationId).sort(), ids.sort());
    assert.equal((await house.count(`${WORK}.dlq`)).messageCount, 0);
    await until('all were acked', async () => (await house.queue(WORK)).messages === 0);
    await next.stop();
  });

  it('again and again with the same message leaves it in the dead letters', async () => {
    // The broker counts, so that a message that kills its worker cannot kill the fleet for ever.
    assert.equal((await house.run('chatfleet', ['topology', 'apply'])).code, 0);
    await caller.send('system.echo', { message: 'deadly' }, { headers: { mine: 'kept' } });
    for (let i = 0; i <= 20; i++) {
      const victim = await house.caller();
      await victim.channel.consume(WORK, () => victim.connection.close().catch(() => {}));
      await new Promise((resolve) => victim.connection.once('close', resolve));
    }
    const dead = await caller.take(`${WORK}.dlq`);
    assert.equal(dead.properties.headers['x-death'][0].reason, 'delivery_limit');
    assert.equal(dead.properties.headers.mine, 'kept');
    assert.deepEqual(JSON.parse(dead.content), { message: 'deadly' });
  });
});

describe('lost connections', () => {
  let house, shim, worker;

  before(async () => {
    house = await House.open('lost');
    [shim, worker] = await Promise.all([house.shim(), house.worker({ PREFETCH: '50' })]);
    await house.answers(shim);
  });
  after(() => house.close());

  const connected = async (p) => {
    const samples = await metricsOf(p.adminPort);
    return valueOf(samples, 'amqp_connection_up') === 2 && valueOf(samples, 'amqp_connections_total');
  };

  for (const whose of ['the worker', 'the shim', 'both']) {
    it(`of ${whose}, in the middle of traffic, come back by themselves`, async () => {
      const victims = { 'the worker': [worker], 'the shim': [shim], both: [worker, shim] }[whose];
      const before_ = await Promise.all(victims.map(connected));
      const traffic = house.traffic(shim, { clients: 16 });
      await traffic.more(50);
      const all = (await Promise.all(victims.map((p) =>
        connections(house.vhost, `:${p.pid} `, 2)))).flat();
      await Promise.all(all.map((c) => closeConnection(c.name)));
      await until('all are connected again', async () => {
        const now = await Promise.all(victims.map(connected));
        return now.every((n, i) => n >= before_[i] + 2);
      });
      await until('the worker consumes', async () =>
        (await request(worker.adminPort, '/health')).status === 200);
      await house.answers(shim);
      const failed = traffic.failures.length;
      await traffic.more(200);
      assert.equal(traffic.failures.length, failed, 'after the recovery nothing fails');
      await traffic.stop();
      // What failed in between was told honestly.
      for (const failure of traffic.failures) {
        assert.ok([503, 504].includes(failure.status), JSON.stringify(failure));
      }
      assert.equal(await pending(shim), 0);
      assert.equal((await house.count(`${WORK}.dlq`)).messageCount, 0);
      await until('nothing is left behind', async () => (await house.count(WORK)).messageCount === 0);
      const consumers = await until('the consumer is shown', async () => {
        const found = (await management('GET', `/consumers/${encodeURIComponent(house.vhost)}`))
          .filter((c) => c.queue.name === WORK);
        return found.length === 1 && found;
      });
      assert.equal(consumers[0].prefetch_count, 50, 'the prefetch is as it was');
    });
  }

  it('under acks: AMQP callers get every answer at least once', async () => {
    const caller = await house.caller();
    const ids = new Set();
    const sending = (async () => {
      for (let i = 0; i < 400; i++) ids.add(await caller.send('system.echo', { i }));
    })();
    await until('some were sent', () => ids.size > 100);
    for (const c of await connections(house.vhost, `:${worker.pid} `, 2)) await closeConnection(c.name);
    await sending;
    await until('all are answered', () => {
      const got = new Set(caller.replies.map((m) => m.properties.correlationId));
      return [...ids].every((id) => got.has(id));
    });
    // Whoever was answered twice can tell by the id.
    const byCall = new Map();
    for (const m of caller.replies) {
      const { correlationId, messageId } = m.properties;
      assert.equal(byCall.get(correlationId) ?? messageId, messageId);
      byCall.set(correlationId, messageId);
      assert.equal(readAnswer(m).status, 200);
    }
  });

  it('of the queues: the work queue deleted under traffic is made anew', async () => {
    const caller = await house.caller();
    const traffic = house.traffic(shim, { clients: 8 });
    await traffic.more(50);
    await caller.channel.deleteQueue(WORK);
    await until('it is consumed again', async () => (await house.count(WORK)).consumerCount === 1);
    await house.answers(shim);
    await traffic.more(100);
    await traffic.stop();
    for (const failure of traffic.failures) {
      assert.ok([501, 503, 504].includes(failure.status), JSON.stringify(failure));
    }
    assert.equal((await house.queue(WORK)).arguments['x-queue-type'], 'quorum');
    assert.equal(await pending(shim), 0);
  });

  it('of the reply queue: deleted by somebody, the shim makes another', async () => {
    const caller = await house.caller();
    const replyQueues = async () => (await management('GET',
      `/queues/${encodeURIComponent(house.vhost)}`)).filter((q) => q.name.startsWith('chat.reply.'));
    const traffic = house.traffic(shim, { clients: 8 });
    await traffic.more(50);
    for (const queue of await replyQueues()) await caller.channel.deleteQueue(queue.name);
    await house.answers(shim);
    await traffic.more(100);
    await traffic.stop();
    // What was on its way to the deleted queue is lost, and told at the deadline.
    for (const failure of traffic.failures) {
      assert.ok([503, 504].includes(failure.status), JSON.stringify(failure));
    }
    const after_ = house.traffic(shim, { clients: 8 });
    await after_.more(100);
    await after_.stop();
    assert.deepEqual(after_.failures, []);
    assert.equal((await replyQueues()).length, 1);
    assert.equal(await pending(shim), 0);
  });
});
