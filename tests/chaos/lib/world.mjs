// What is attacked: a fleet of several processes of each kind, which are started again when they end, and
// the servers behind it.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { binary } from '../../integration/lib/environment.mjs';
import { House, modelSettings } from '../../integration/lib/house.mjs';
import { management } from '../../integration/lib/management.mjs';
import { startModel } from '../../integration/lib/model.mjs';
import { plainEnvironment } from '../../integration/lib/processes.mjs';
import { later, pause, until } from '../../integration/lib/wait.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const AGAIN_MS = 200; // before a process that ended is started again
const SANITIZER = /(ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|LeakSanitizer)/;

// How many of each kind; the shims share one socket.
export const FLEET = { gateway: 2, persistence: 2, 'context-builder': 2, inference: 2 };
export const SLOTS = Object.values(FLEET).reduce((sum, n) => sum + n, 0);
export const WORK_QUEUES = ['persistence', 'persistence.commit', 'persistence.read', 'context-builder', 'inference'];

export const EVENTS = 'chaos.events'; // a queue that keeps all events

// Short times, so that a run of minutes sees what else takes an hour. The delays of 30 s and 5 min become
// shorter by a policy: the smaller of argument and policy counts.
const DELAYS = { pattern: '\\.retry\\.(30s|5m)$', 'apply-to': 'queues', definition: { 'message-ttl': 3000 } };
const SETTINGS = {
  AMQP_HEARTBEAT_SECONDS: '3',
  DRAIN_TIMEOUT_SECONDS: '10',
  MODEL_TIMEOUT_SECONDS: '12',
  MODEL_CONNECT_TIMEOUT_SECONDS: '2',
  MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '4',
  MODEL_IDLE_TIMEOUT_SECONDS: '4',
};

// One place in the fleet: the process that holds it, and the next one when that has ended.
class Slot {
  constructor(world, kind, number) {
    Object.assign(this, { world, kind, name: `${kind}.${number}`, starts: 0, expected: false });
  }

  start() {
    const { world, kind } = this;
    const own = kind === 'gateway'
      ? [binary('chatfleet-socket'), 'exec', world.door, binary('chatfleet-gateway')] : undefined;
    const env = { ...SETTINGS, ...modelSettings(world.model), LOG_FILE: path.join(world.logs, `${this.name}.log`) };
    const p = world.house.start(`chatfleet-${kind}`, env, own);
    this.process = p;
    this.expected = false;
    this.starts++;
    this.ready = this.#becomeReady(p);
    p.exit.then(() => this.#ended(p));
  }

  // Without a broker it takes as long as that is away.
  async #becomeReady(p) {
    while (!p.ended) {
      try {
        await p.ready();
        return true;
      } catch {
        await pause(AGAIN_MS);
      }
    }
    return false;
  }

  async #ended(p) {
    const { world } = this;
    if (SANITIZER.test(p.stderr)) world.sanitized.push(`${this.name} (pid ${p.pid}): ${tail(p.stderr)}`);
    if (!this.expected) {
      p.killed = true; // there is nothing left to stop
      world.died.push(`${this.name} (pid ${p.pid}) ended by itself: ${JSON.stringify(p.ended)} ${tail(p.stderr)}`);
    }
    if (world.closing) return;
    await pause(AGAIN_MS);
    if (!world.closing) this.start();
  }

  async kill() {
    this.expected = true;
    await this.process.kill();
  }

  // SIGTERM; says what was wrong with its end. One that has only just begun may not know the signal yet.
  async drain() {
    const p = this.process;
    const young = p.adminPort === undefined;
    this.expected = true;
    try {
      await p.stop();
    } catch (error) {
      if (young && p.ended?.signal === 'SIGTERM') {
        p.killed = true;
        return;
      }
      this.world.died.push(`${this.name} (pid ${p.pid}) did not end well: ${error.message}`);
      if (!p.ended) await p.kill();
      p.killed = true;
    }
  }
}

const tail = (text) => text.split('\n').filter(Boolean).slice(-30).join('\n    ');

// A tenant with a budget that nobody uses up: each of its turns is reserved and settled.
export const BUDGETED = 'budgeted';

export class World {
  died = [];      // processes that ended and nobody had told them to
  sanitized = []; // sanitizers' reports
  closing = false;
  slots = [];
  logs = fs.mkdtempSync(path.join(os.tmpdir(), 'chatfleet-chaos-'));
  #turn = Promise.resolve();

  async open() {
    this.model = await startModel();
    this.house = await House.open('chaos', { database: true });
    this.database = this.house.database;
    await this.#budget();
    await this.policy('chaos-delays', DELAYS);
    await this.#openDoor();
    this.slots = Object.entries(FLEET).flatMap(([kind, n]) =>
      Array.from({ length: n }, (_, i) => new Slot(this, kind, i + 1)));
    for (const slot of this.slots) slot.start();
    await Promise.all(this.slots.map((slot) => slot.ready));
    await this.house.answers(this);
    await this.#listen();
  }

  async #budget() {
    await this.database.rows('INSERT INTO chat.tenants (tenant_id, month_budget) VALUES ($1, 1000000)', [BUDGETED]);
    await this.database.rows(`INSERT INTO chat.tenant_spending (tenant_id, since, day, day_cost, day_tokens, month,
      month_cost, month_tokens) VALUES ($1, now(), now(), 0, 0, date_trunc('month', now()), 0, 0)`, [BUDGETED]);
  }

  async #listen() {
    const vhost = encodeURIComponent(this.house.vhost);
    await management('PUT', `/queues/${vhost}/${EVENTS}`, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    await management('POST', `/bindings/${vhost}/e/chat.events/q/${EVENTS}`, { routing_key: '#' });
  }

  // The socket that outlives each shim.
  async #openDoor() {
    this.door = path.join(this.house.folder, 'door');
    this.keeper = spawn(binary('chatfleet-socket'), ['hold', this.door, '127.0.0.1', '0'], {
      env: plainEnvironment({}), stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { promise, resolve, reject } = later('the port of the shared socket');
    this.keeper.stdout.on('data', (text) => resolve(Number(text)));
    this.keeper.on('error', reject);
    this.port = await promise;
    await until('the door is there', () => fs.existsSync(this.door));
  }

  of(kind) {
    return this.slots.filter((slot) => slot.kind === kind);
  }

  // ./fleet against the private servers, one call at a time.
  fleet(...args) {
    const call = () => promisify(execFile)(path.join(ROOT, 'fleet'), args, { cwd: ROOT, env: process.env });
    const done = this.#turn.then(call);
    this.#turn = done.catch(() => {});
    return done;
  }

  policy(name, definition) {
    return management('PUT', `/policies/${encodeURIComponent(this.house.vhost)}/${name}`,
                      { priority: 1, ...definition });
  }

  // Ends the processes; the servers and what is in them stay for a look. Each must end well.
  async stopProcesses() {
    this.closing = true;
    await Promise.all(this.slots.map((slot) => slot.process.ended ? undefined : slot.drain()));
  }

  // Also one that was opened half. With `keep`, the logs stay.
  async close({ keep }) {
    await this.stopProcesses();
    if (this.keeper) {
      const ended = new Promise((resolve) => this.keeper.on('close', resolve));
      this.keeper.kill('SIGTERM');
      await ended;
    }
    await this.house?.close();
    await this.model?.close();
    if (!keep) fs.rmSync(this.logs, { recursive: true, force: true });
  }
}
