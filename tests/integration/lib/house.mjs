// A fleet of a test file's own: a fresh virtual host, and processes that know it.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Caller } from './amqp.mjs';
import { brokerUrl } from './environment.mjs';
import { request } from './http.mjs';
import { createVhost, deleteVhost, queueOf } from './management.mjs';
import { Process, run } from './processes.mjs';
import { SECRET, bearer } from './token.mjs';
import { Traffic } from './traffic.mjs';
import { until } from './wait.mjs';

export const INTERNAL_KEY = 'integration-internal-key';
export const ORIGIN = 'https://app.example.org';
export const MODEL = 'test/model';

// So that this model answers.
// One model only, which is asked whatever it did before.
export const modelSettings = (model) => ({
  DEFAULT_MODEL: MODEL, FALLBACK_MODEL: 'none', BREAKER_OPEN_SECONDS: '0',
  ...(model && { OPENROUTER_API_KEY: 'any', OPENROUTER_BASE_URL: model.url }),
});

export class House {
  #processes = [];
  #callers = [];
  #counter;
  #traffic = [];
  #started = 0;

  // With `database`, one of its own with the schema in it, in which every user is known.
  static async open(name, { database = false } = {}) {
    const house = new House();
    if (database) {
      const { Database } = await import('./database.mjs'); // the others need no DATABASE_ADMIN_URL
      house.database = await Database.open(name, { schema: true });
    }
    house.vhost = `itest-${name}-${process.pid}-${Date.now().toString(36)}`;
    house.folder = fs.mkdtempSync(path.join(os.tmpdir(), `chatfleet-${name}-`));
    await createVhost(house.vhost);
    return house;
  }

  // The settings of every process.
  get env() {
    return {
      RABBITMQ_URL: brokerUrl(this.vhost),
      JWT_SECRET: SECRET,
      INTERNAL_SERVICE_KEY: INTERNAL_KEY,
      CORS_ORIGINS: ORIGIN,
      BIND_ADDRESS: '127.0.0.1',
      PORT: '0',
      ADMIN_PORT: '0',
      AMQP_RECONNECT_MAX_MS: '1000',
      ...(this.database && { DATABASE_URL: this.database.workerUrl, AUTH_AUTO_PROVISION: 'true' }),
    };
  }

  start(name, env = {}, command) {
    const stateFile = path.join(this.folder, `${name}-${++this.#started}.json`);
    const p = new Process(name, {
      env: { ...this.env, STATE_FILE: stateFile, ...env }, stateFile, command,
    });
    this.#processes.push(p);
    return p;
  }

  worker(env) {
    return this.start('chatfleet-context-builder', env).ready();
  }

  persistence(env) {
    return this.start('chatfleet-persistence', env).ready();
  }

  inference(env) {
    return this.start('chatfleet-inference', env).ready();
  }

  // One of each that a turn passes through: {shim, persistence, builder, inference, caller}. `model`
  // answers (of lib/model.mjs; without one the offline provider does).
  async fleet({ model, settings = {} } = {}) {
    const env = { ...modelSettings(model), ...settings };
    const [persistence, builder, inference, caller] = await Promise.all([
      this.persistence(env), this.worker(env), this.inference(env), this.caller()]);
    const shim = await this.shim(env); // the last, so that whom it asks is there
    return { shim, persistence, builder, inference, caller };
  }

  async shim(env) {
    const shim = this.start('chatfleet-gateway', env);
    await shim.listening();
    return shim.ready();
  }

  run(name, args, env = {}) {
    return run(name, args, { ...this.env, ...env });
  }

  async caller() {
    const caller = await Caller.open(this.vhost);
    this.#callers.push(caller);
    return caller;
  }

  queue(name) {
    return queueOf(this.vhost, name);
  }

  // How many messages stand in a queue, and how many consumers it has, as the broker itself says.
  async count(name) {
    if (!this.#counter || this.#counter.closed) this.#counter = await this.caller();
    const channel = await this.#counter.connection.createChannel();
    channel.on('error', () => {}); // there is no such queue: the caller is told, too
    const count = await channel.checkQueue(name);
    await channel.close();
    return count;
  }

  // Clients of a shim, which end with the house at the latest.
  traffic(shim, options) {
    const traffic = new Traffic(shim.port, options);
    this.#traffic.push(traffic);
    return traffic;
  }

  // Waits until the shim's requests are answered by a worker.
  answers(shim) {
    return until('the echo is answered', async () =>
      (await echo(shim, { message: 'there?' })).status === 200);
  }

  // Stops everything that runs; fails when something did not end well.
  async close() {
    const failures = [];
    await Promise.all(this.#traffic.map((traffic) => traffic.stop()));
    for (const caller of this.#callers) await caller.close();
    await Promise.all(this.#processes.map((p) => p.stop().catch((error) => failures.push(error))));
    for (const p of this.#processes) if (!p.ended) await p.kill();
    await deleteVhost(this.vhost);
    await this.database?.close();
    fs.rmSync(this.folder, { recursive: true, force: true });
    if (failures.length) throw failures[0];
  }
}

// One echo through a shim, with a token of its own.
export function echo(shim, body = { message: 'hello' }, { headers = {}, ...options } = {}) {
  return request(shim.port, '/api/chat/echo', {
    body, headers: { ...bearer(), ...headers }, ...options,
  });
}
