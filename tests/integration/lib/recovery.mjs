// What must be true again after every fault: a house with turns under way, and the check that follows.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { House, modelSettings } from './house.mjs';
import { metricsOf, request } from './http.mjs';
import { management } from './management.mjs';
import { valueOf } from './metrics.mjs';
import { startModel } from './model.mjs';
import { Talks } from './talks.mjs';
import { until } from './wait.mjs';

const PREFETCH = 48;
const KINDS = ['persistence', 'context-builder', 'inference'];
const QUEUES = ['persistence', 'persistence.commit', 'persistence.read', 'context-builder', 'inference'];
const AGAIN_MS = 90000;
// A sanitizer would keep what was freed, up to 256 MB of it.
const SMALL_QUARANTINE = { ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:quarantine_size_mb=1` };
const GROWTH_KB = 24 * 1024;

// What a process takes, without what it shares with others.
const pss = (pid) => Number(/^Pss:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);

export class Recovery {
  memory = new Map(); // of each process, before the first fault that it met

  static async open(name, settings = {}) {
    const r = new Recovery();
    r.model = await startModel({ mode: 'instant' });
    r.house = await House.open(name, { database: true });
    r.settings = { ...modelSettings(r.model), ...SMALL_QUARANTINE, PREFETCH: String(PREFETCH), ...settings };
    [r.persistence, r['context-builder'], r.inference] = await Promise.all(KINDS.map((kind) => r.worker(kind)));
    r.caller = await r.house.caller();
    r.door = {}; // where the shim of the moment is found
    await r.newShim();
    return r;
  }

  get database() {
    return this.house.database;
  }

  get processes() {
    return [this.shim, ...KINDS.map((kind) => this[kind])];
  }

  worker(kind, env = {}) {
    return this.house.start(`chatfleet-${kind}`, { ...this.settings, ...env }).ready();
  }

  async newShim(env = {}) {
    this.shim = await this.house.shim({ ...this.settings, ...env });
    this.door.port = this.shim.port;
  }

  // Turns that are under way when a fault comes.
  async begin(options) {
    this.talks = new Talks(this.door, options);
    await this.talks.more(20);
    for (const p of this.processes) if (!this.memory.has(p.pid)) this.memory.set(p.pid, pss(p.pid));
  }

  // A test that failed half-way must not go on beside the next.
  async quiet() {
    for (const p of this.processes) p.thaw();
    await this.talks?.end().catch(() => {});
  }

  async close() {
    await this.quiet();
    await this.house.close();
    await this.model.close();
  }

  // Of each queue. The statistics keep consumers of a quorum queue that was deleted.
  async #prefetches() {
    const all = await management('GET', `/consumers/${encodeURIComponent(this.house.vhost)}`);
    return QUEUES.map((queue) =>
      [...new Set(all.filter((c) => c.queue.name === queue).map((c) => c.prefetch_count))].join());
  }

  // Turns go through, each queue is consumed as it was, what was answered is there and once, nobody waits for
  // what will not come, and what the fault took of memory is given back. Returns the dead letters' messages.
  async assertRecovered({ dead = {} } = {}) {
    await until('all are well', async () => {
      for (const p of this.processes) if ((await request(p.adminPort, '/health')).status !== 200) return false;
      return true;
    }, { limit: AGAIN_MS });
    await this.talks.more(20);
    await this.talks.end();
    await this.talks.assertKept(this.database);
    for (const queue of QUEUES) {
      await until(`${queue} is consumed`, async () => (await this.house.count(queue)).consumerCount === 1);
    }
    await until('each prefetch is as it was', async () => (await this.#prefetches()).every((n) => n === String(PREFETCH)),
                { every: 200 }).catch(async () => assert.fail(`the prefetch of ${QUEUES}: ${await this.#prefetches()}`));
    for (const queue of QUEUES) {
      assert.equal((await this.house.count(`${queue}.dlq`)).messageCount, dead[queue] ?? 0, `dead letters of ${queue}`);
      await until(`${queue} is empty`, async () => (await this.house.count(queue)).messageCount === 0);
    }
    await until('no call is left', async () =>
      valueOf(await metricsOf(this.shim.adminPort), 'rpc_calls_pending') === 0);
    for (const p of KINDS.map((kind) => this[kind])) {
      await until(`${p.name} has settled all`, async () =>
        valueOf(await metricsOf(p.adminPort), 'worker_jobs_in_flight') === 0);
    }
    for (const p of this.processes) {
      const before = this.memory.get(p.pid);
      if (before === undefined) this.memory.set(p.pid, pss(p.pid)); // it came after the fault
      else assert.ok(pss(p.pid) < before + GROWTH_KB, `${p.name} took ${before} kB, and takes ${pss(p.pid)}`);
    }
  }
}
