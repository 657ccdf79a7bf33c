// Exchanges, queues and bindings, as the broker has them; and the connections it shows.
import assert from 'node:assert/strict';
import os from 'node:os';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { connections, management } from './lib/management.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { until } from './lib/wait.mjs';

const WORK = 'context-builder';
const MARGINS = ['.retry.1s', '.retry.5s', '.retry.30s', '.retry.5m'];

describe('topology', () => {
  let house, other, worker, shim;

  before(async () => {
    house = await House.open('topology');
    other = await House.open('topology-other');
    [worker, shim] = await Promise.all([house.worker(), house.shim()]);
    await house.run('chatfleet', ['topology', 'apply']); // the other kinds' queues
  });
  after(async () => {
    await house.close();
    await other.close();
  });

  const vhost = (h = house) => encodeURIComponent(h.vhost);
  const queueArguments = async (name) => (await house.queue(name)).arguments;

  it('is what the fleet promises: quorum queues that lose nothing', async () => {
    assert.deepEqual(await queueArguments(WORK), {
      'x-queue-type': 'quorum', 'x-delivery-limit': 20,
      'x-dead-letter-exchange': 'chat.dlx', 'x-dead-letter-routing-key': WORK,
      'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish',
    });
    assert.deepEqual(await queueArguments(`${WORK}.dlq`), {
      'x-queue-type': 'quorum', 'x-delivery-limit': 1000000,
    });
    const delays = [1000, 5000, 30000, 300000];
    for (const [i, margin] of MARGINS.entries()) {
      assert.deepEqual(await queueArguments(WORK + margin), {
        'x-queue-type': 'quorum', 'x-message-ttl': delays[i],
        'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': WORK,
        'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish',
      });
    }
    for (const name of [WORK, `${WORK}.dlq`, ...MARGINS.map((m) => WORK + m)]) {
      const queue = await house.queue(name);
      assert.equal(queue.durable, true);
      assert.equal(queue.exclusive, false);
      assert.equal(queue.auto_delete, false);
    }
  });

  it('is exactly what "chatfleet topology show" says', async () => {
    const shown = await house.run('chatfleet', ['topology', 'show', '--json']);
    assert.equal(shown.code, 0, shown.stderr);
    const lines = JSON.parse(shown.stdout);
    const told = (what) => lines.filter((l) => l.what === what).map((l) => `${l.name}: ${l.detail}`)
      .sort();

    const exchanges = (await management('GET', `/exchanges/${vhost()}`))
      .filter((x) => x.name && !x.name.startsWith('amq.'))
      .map((x) => `${x.name}: ${x.type}${x.durable ? ', durable' : ''}`);
    assert.deepEqual(exchanges.sort(), told('exchange'));

    const queues = (await management('GET', `/queues/${vhost()}`))
      .filter((q) => !/^chat\.(reply|control)\./.test(q.name)); // those are processes' own
    const described = new Map(told('queue').map((line) => line.split(/: (.*)/s)));
    assert.deepEqual(queues.map((q) => q.name).sort(), [...described.keys()].sort());
    for (const queue of queues) {
      const parts = ['durable', ...Object.entries(queue.arguments).map(([k, v]) => `${k}=${v}`)];
      assert.deepEqual(described.get(queue.name).split(', ').sort(), parts.sort(), queue.name);
    }

    const bindings = (await management('GET', `/bindings/${vhost()}`))
      .filter((b) => b.source && !b.destination.startsWith('chat.control.'))
      .map((b) => `${b.destination}: from ${b.source} by ${b.routing_key}`);
    assert.deepEqual(bindings.sort(), told('binding'));
    assert.ok(bindings.includes(`${WORK}: from chat.rpc by system.echo`));
  });

  it('has a queue for control messages for each process that listens', async () => {
    const own = (await management('GET', `/queues/${vhost()}`)).filter((q) => q.name.startsWith('chat.control.'));
    assert.equal(own.length, 1); // the context builder's
    assert.equal(own[0].exclusive, true);
  });

  it('has a reply queue for each shim, which outlives a reconnect but not the shim', async () => {
    const replies = (await management('GET', `/queues/${vhost()}`))
      .filter((q) => q.name.startsWith('chat.reply.'));
    assert.equal(replies.length, 1);
    const [queue] = replies;
    assert.equal(queue.type, 'classic');
    assert.equal(queue.durable, true);
    assert.equal(queue.exclusive, false);
    assert.ok(queue.arguments['x-expires'] >= 60000);
    assert.ok(queue.arguments['x-message-ttl'] >= 5000);

    const second = await house.shim();
    await until('there are two', async () => (await management('GET', `/queues/${vhost()}`))
      .filter((q) => q.name.startsWith('chat.reply.')).length === 2);
    await second.stop();
    await until('there is one again', async () => (await management('GET', `/queues/${vhost()}`))
      .filter((q) => q.name.startsWith('chat.reply.')).length === 1);
  });

  it('can be put into place without a worker', async () => {
    const applied = await other.run('chatfleet', ['topology', 'apply']);
    assert.equal(applied.code, 0, applied.stderr);
    assert.match(applied.stdout, /5 exchanges, 26 queues and [0-9]+ bindings/);
    assert.equal((await other.queue(WORK)).arguments['x-queue-type'], 'quorum');
    // Again is no harm.
    assert.equal((await other.run('chatfleet', ['topology', 'apply'])).code, 0);
  });

  it('with another prefix has other exchanges', async () => {
    const shown = await house.run('chatfleet', ['topology', 'show'], { EXCHANGE_PREFIX: 'alpha' });
    assert.match(shown.stdout, /^exchange +alpha\.rpc +direct, durable$/m);
    assert.doesNotMatch(shown.stdout, /chat\.rpc/);
  });

  describe('that is unsafe', () => {
    const wrong = [
      [WORK, { 'x-queue-type': 'classic' }],
      [WORK, { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 }],
      [`${WORK}.retry.5s`, { 'x-queue-type': 'quorum', 'x-message-ttl': 1 }],
      [`${WORK}.dlq`, { 'x-queue-type': 'quorum' }],
    ];
    for (const [name, args] of wrong) {
      it(`is refused by worker and command line: ${name} with ${JSON.stringify(args)}`, async () => {
        const caller = await other.caller();
        await caller.channel.deleteQueue(name);
        await caller.channel.assertQueue(name, { durable: true, arguments: args });

        const refused = other.start('chatfleet-context-builder');
        const end = await refused.end();
        refused.killed = true; // it is not to be stopped any more
        assert.deepEqual(end, { code: 78, signal: null }, refused.stderr);
        const errors = refused.lines.filter((line) => line.level === 'error');
        assert.equal(errors.length, 1, refused.stderr);
        assert.equal(errors[0].event, 'start refused');
        assert.match(errors[0].error, new RegExp(`queue ${name.replaceAll('.', '\\.')}\\b`));
        assert.match(errors[0].error, /inequivalent|PRECONDITION/i);

        const applied = await other.run('chatfleet', ['topology', 'apply']);
        assert.equal(applied.code, 1);
        assert.match(applied.stderr, new RegExp(`^chatfleet: topology not declared: .*${name}`));
        await caller.channel.deleteQueue(name);
        assert.equal((await other.run('chatfleet', ['topology', 'apply'])).code, 0);
      });
    }

    it('is refused where an exchange has another type', async () => {
      const caller = await other.caller();
      await caller.channel.deleteExchange('chat.rpc');
      await caller.channel.assertExchange('chat.rpc', 'fanout', { durable: true });
      const refused = other.start('chatfleet-context-builder');
      assert.equal((await refused.end()).code, 78, refused.stderr);
      refused.killed = true;
      assert.match(refused.stderr, /exchange chat\.rpc/);
    });
  });

  it('shows who is connected, for what, and what their client can do', async () => {
    for (const [name, p] of [['context-builder', worker], ['gateway', shim]]) {
      const all = await connections(house.vhost, `:${p.pid} `, 2);
      const names = all.map((c) => c.client_properties.connection_name).sort();
      assert.deepEqual(names, ['consume', 'publish'].map((purpose) =>
        `chatfleet ${name}@${os.hostname()}:${p.pid} ${purpose}`));
      for (const connection of all) {
        const { capabilities, product, version } = connection.client_properties;
        for (const wanted of ['consumer_cancel_notify', 'connection.blocked', 'publisher_confirms',
                              'basic.nack', 'authentication_failure_close']) {
          assert.equal(capabilities[wanted], true, wanted);
        }
        assert.ok(product && version);
      }
    }
  });

  it('has one consumer with a prefetch for each worker', async () => {
    const consumers = await until('the consumer is shown', async () => {
      const all = await management('GET', `/consumers/${vhost()}`);
      const found = all.filter((c) => c.queue.name === WORK);
      return found.length === 1 && found;
    });
    assert.equal(consumers[0].prefetch_count, 256);
    assert.equal(consumers[0].ack_required, true);
    const tuned = await house.worker({ PREFETCH: '17' });
    await until('the second is shown', async () => {
      const all = await management('GET', `/consumers/${vhost()}`);
      const counts = all.filter((c) => c.queue.name === WORK).map((c) => c.prefetch_count);
      return counts.sort().join() === '17,256';
    });
    await tuned.stop();
  });

  it('lost is made again: the queue deleted, the consumer goes on', async () => {
    const caller = await house.caller();
    assert.equal((await caller.call('system.echo', {})).status, 200);
    await caller.channel.deleteQueue(WORK);
    await until('it is there again', async () => (await house.count(WORK)).consumerCount === 1);
    assert.equal((await queueArguments(WORK))['x-delivery-limit'], 20);
    assert.equal((await caller.call('system.echo', { again: true })).status, 200);
    assert.equal(valueOf(await metricsOf(worker.adminPort), 'worker_jobs_in_flight'), 0);
  });
});
