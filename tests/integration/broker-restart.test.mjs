// The broker full, stopped and started again. It is this file's own (./fleet servers).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Caller } from './lib/amqp.mjs';
import { echo, House } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { management } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';
import { assertProblem } from './lib/problem.mjs';
import { until } from './lib/wait.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const WORK = 'context-builder';
const RESTART_MS = 60000;
const skip = process.env.FLEET_HOME ? false : 'not run: ./fleet servers runs it';

const broker = (...args) => promisify(execFile)(path.join(ROOT, 'fleet'), ['broker', ...args],
                                                { cwd: ROOT, env: process.env });

const timed = async (promise) => {
  const started = Date.now();
  const answer = await promise;
  return { answer, ms: Date.now() - started };
};

describe('the broker', { skip }, () => {
  const watermark = 0.4;
  let house, shim, worker;

  before(async () => {
    house = await House.open('restart');
    [shim, worker] = await Promise.all([house.shim(), house.worker({ PREFETCH: '60' })]);
    await house.answers(shim);
  });
  after(() => house.close());
  afterEach(async () => {
    // A test that failed half-way must not leave the others without a broker.
    await broker('start').catch(() => {});
    await broker('ctl', 'set_vm_memory_high_watermark', String(watermark)).catch(() => {});
  });

  const nothingPending = async () => valueOf(await metricsOf(shim.port), 'rpc_calls_pending') === 0;

  const whole = () => until('shim and worker are well', async () => {
    for (const p of [shim, worker]) {
      if ((await request(p.adminPort, '/health')).status !== 200) return false;
    }
    return (await echo(shim)).status === 200;
  }, { limit: RESTART_MS });

  // `during` is the traffic that met the fault: it ends here, and had honest answers only.
  async function assertWellAgain(during) {
    await whole();
    await during?.stop();
    for (const failure of during?.failures ?? []) {
      assert.ok([503, 504].includes(failure.status), JSON.stringify(failure));
    }
    const traffic = house.traffic(shim, { clients: 16 });
    await traffic.more(200);
    await traffic.stop();
    assert.deepEqual(traffic.failures, []);
    await until('no call is left', nothingPending);
    const consumers = await until('the consumer is shown', async () => {
      const found = (await management('GET', `/consumers/${encodeURIComponent(house.vhost)}`))
        .filter((c) => c.queue.name === WORK);
      return found.length === 1 && found;
    });
    assert.equal(consumers[0].prefetch_count, 60);
    assert.ok(!shim.ended && !worker.ended, 'the processes are the same as before');
  }

  it('without memory makes 503 within a second, and everything goes on afterwards', async () => {
    const traffic = house.traffic(shim, { clients: 8, pauseMs: 5 });
    await traffic.more(50);
    await broker('ctl', 'set_vm_memory_high_watermark', '0.0000001');
    await until('the shim has noticed', async () => (await echo(shim)).status === 503);
    for (let i = 0; i < 5; i++) {
      const { answer, ms } = await timed(echo(shim));
      assertProblem(answer, 503);
      assert.ok(ms < 1500, `${ms} ms`);
    }
    const health = await timed(request(shim.port, '/health'));
    assert.equal(health.answer.status, 503);
    assert.ok(health.ms < 2500, `${health.ms} ms`);
    assert.equal(health.answer.json.dependencies.rabbitmq.status, 'unhealthy');
    assert.equal((await request(shim.port, '/health/live')).status, 200);

    await broker('ctl', 'set_vm_memory_high_watermark', String(watermark));
    await assertWellAgain(traffic);
    const samples = await metricsOf(shim.adminPort);
    assert.equal(valueOf(samples, 'amqp_connections_total', { connection: 'publish' }), 1,
                 'being blocked is no reason to connect anew');
  });

  it('without memory lets a worker end', async () => {
    const second = await house.worker({ DRAIN_TIMEOUT_SECONDS: '2' });
    // The broker blocks who publishes, not who is idle.
    const traffic = house.traffic(shim, { clients: 16 });
    await traffic.more(100);
    await broker('ctl', 'set_vm_memory_high_watermark', '0.0000001');
    await until('the shim has noticed', async () => (await echo(shim)).status === 503);
    const started = Date.now();
    await second.stop();
    assert.ok(Date.now() - started < 10000);
    await broker('ctl', 'set_vm_memory_high_watermark', String(watermark));
    await assertWellAgain(traffic);
  });

  it('stopped makes 503 within a second; started again, everything comes back', async () => {
    const traffic = house.traffic(shim, { clients: 8, pauseMs: 10 });
    await traffic.more(50);
    await broker('stop');
    await until('the shim has noticed', async () => (await echo(shim)).status === 503);
    for (let i = 0; i < 5; i++) {
      const { answer, ms } = await timed(echo(shim));
      assertProblem(answer, 503);
      assert.ok(ms < 1500, `${ms} ms`);
    }
    const health = await timed(request(shim.port, '/health'));
    assert.equal(health.answer.status, 503);
    assert.ok(health.ms < 2500);
    assert.equal((await request(worker.adminPort, '/health/live')).status, 200);
    await until('no call is left', nothingPending);

    await broker('start');
    await assertWellAgain(traffic);
  });

  it('restarted keeps what was confirmed', async () => {
    worker.signal('SIGSTOP');
    const caller = await Caller.open(house.vhost);
    const messages = 50;
    for (let i = 0; i < messages; i++) {
      await caller.send('system.echo', { message: 17 }, { replyTo: null }); // dead letters in the end
    }
    await caller.close();
    await broker('restart');
    worker.signal('SIGCONT');
    await whole();
    const after_ = await Caller.open(house.vhost);
    let found = [];
    await until('all are there', async () => {
      found = found.concat(await after_.takeAll(`${WORK}.dlq`));
      return new Set(found.map((m) => m.properties.messageId)).size === messages;
    });
    // Whoever was handled twice can be told by the id of the dead letter.
    assert.equal(new Set(found.map((m) => m.properties.headers['x-dead-letter-id'])).size, messages);
    await after_.close();
    await assertWellAgain();
  });

  it('away when processes start is waited for, and ended without', async () => {
    await broker('stop');
    const [lateShim, lateWorker] = [house.start('chatfleet-gateway'),
                                    house.start('chatfleet-context-builder')];
    await lateShim.listening();
    const { answer, ms } = await timed(echo(lateShim));
    assertProblem(answer, 503);
    assert.ok(ms < 2500, `${ms} ms`);
    const started = Date.now();
    const hasty = house.start('chatfleet-gateway');
    await hasty.listening();
    await hasty.stop();
    assert.ok(Date.now() - started < 10000);
    await broker('start');
    await Promise.all([lateShim.ready(), lateWorker.ready()]);
    await house.answers(lateShim);
    await Promise.all([lateShim.stop(), lateWorker.stop()]);
    await assertWellAgain();
  });

  it('away when they end does not keep them', async () => {
    await broker('stop');
    await until('the shim has noticed', async () => (await echo(shim)).status === 503);
    const started = Date.now();
    await Promise.all([shim.stop(), worker.stop()]);
    assert.ok(Date.now() - started < 15000);
    await broker('start');
  });
});
