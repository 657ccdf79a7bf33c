// The servers away for a while, all connections closed, the broker out of memory: under turns, and with the
// check that follows every fault. The servers are this file's own (./fleet servers).
// OUTAGE_SECONDS says how long "a while" is.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { metricsOf, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { Recovery } from './lib/recovery.mjs';
import { pause, until } from './lib/wait.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const AWAY_MS = Number(process.env.OUTAGE_SECONDS ?? 60) * 1000;
const WATERMARK = '0.4';
const skip = process.env.FLEET_HOME ? false : 'not run: ./fleet servers runs it';

const fleet = (...args) => promisify(execFile)(path.join(ROOT, 'fleet'), args, { cwd: ROOT, env: process.env });

describe('turns survive', { skip }, () => {
  let r;

  before(async () => {
    r = await Recovery.open('outages');
  });
  after(() => r.close());
  afterEach(async () => {
    // A test that failed half-way must not leave the others without servers.
    await fleet('database', 'start').catch(() => {});
    await fleet('broker', 'start').catch(() => {});
    await fleet('broker', 'ctl', 'set_vm_memory_high_watermark', WATERMARK).catch(() => {});
    await r.quiet();
  });

  const unhealthy = (p) => until(`${p.name} has noticed`, async () =>
    (await request(p.adminPort, '/health')).status === 503);

  it(`the broker stopped for ${AWAY_MS / 1000} s`, async () => {
    const pids = r.processes.map((p) => p.pid);
    await r.begin({ patience: AWAY_MS + 60000 });
    await fleet('broker', 'stop');
    await Promise.all(r.processes.map(unhealthy));
    assert.equal(valueOf(await metricsOf(r.shim.adminPort), 'rpc_calls_pending'), 0, 'nobody is kept waiting');
    await pause(AWAY_MS);
    await fleet('broker', 'start');
    await r.assertRecovered();
    assert.ok(r.talks.repeated.length > 0, 'it was met');
    assert.deepEqual(r.processes.map((p) => p.pid), pids);
  });

  it(`PostgreSQL stopped for ${AWAY_MS / 1000} s, and no attempt is used up`, async () => {
    await r.begin({ patience: AWAY_MS + 60000 });
    await fleet('database', 'stop');
    await unhealthy(r.persistence);
    await pause(AWAY_MS);
    await fleet('database', 'start');
    await r.assertRecovered();
    assert.equal(valueOf(await metricsOf(r.persistence.adminPort), 'worker_job_duration_seconds_count',
                         { outcome: 'retried' }), 0);
  });

  it('all connections closed at once', async () => {
    const lost = () => r.processes.reduce((sum, p) => sum + p.events('broker connection lost').length, 0);
    await r.begin();
    for (let i = 0; i < 3; i++) {
      const earlier = lost();
      await fleet('broker', 'ctl', 'close_all_connections', '-p', r.house.vhost, 'by a test');
      await until('each has noticed', () => lost() >= earlier + 2 * r.processes.length);
      await r.talks.more(10);
    }
    await r.assertRecovered();
  });

  it('a broker without memory while all publish', async () => {
    await r.begin({ patience: 90000 });
    // Only who publishes is blocked. Each /health of the shim does, and persistence will: all calls wait for it.
    const of = async (p, metric) => valueOf(await metricsOf(p.adminPort), metric);
    r.persistence.signal('SIGSTOP');
    await until('all calls wait for persistence', async () =>
      await of(r.shim, 'rpc_calls_pending') === r.talks.people.length &&
      await of(r['context-builder'], 'worker_jobs_in_flight') === 0 &&
      await of(r.inference, 'worker_jobs_in_flight') === 0);
    await fleet('broker', 'ctl', 'set_vm_memory_high_watermark', '0.0000001');
    r.persistence.thaw();
    await until('the shim is blocked', async () =>
      (await request(r.shim.port, '/health')).status === 503 && r.shim.events('broker blocked').length > 0);
    await Promise.all([r.shim, r.persistence].map(unhealthy));
    await fleet('broker', 'ctl', 'set_vm_memory_high_watermark', WATERMARK);
    await r.assertRecovered();
  });
});
