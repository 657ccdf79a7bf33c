// Dead letters for tests, and the tool that replays them.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { binary } from './environment.mjs';
import { plainEnvironment, run } from './processes.mjs';
import { Person } from './person.mjs';
import { later, until } from './wait.mjs';
import { uuid7 } from './uuid.mjs';

const DAY = 86400000;

// Older than persistence takes without being told that it is a replay.
export const longAgo = () => uuid7(Date.now() - 400 * DAY);

// A person in a tenant of a test's own, which its filters name.
export const somebody = () => new Person({ tenant: `t-${randomUUID().slice(0, 8)}` });
export const of = (person) => ['--tenant', person.tenant];

export class Letters {
  constructor(house, caller) {
    this.house = house;
    this.caller = caller;
  }

  // chatfleet dlq …: {code, stdout, stderr, json}.
  async tool(args, { env = {}, limit = 60000 } = {}) {
    const out = await run('chatfleet', ['dlq', ...args], this.env(env), { limit });
    try {
      out.json = JSON.parse(out.stdout);
    } catch {
      out.json = undefined;
    }
    return out;
  }

  replay(person, ...args) {
    return this.tool(['replay', ...of(person), '--json', ...args]);
  }

  // The same on a terminal, where this is typed when the tool asks (a function is called then, and returns
  // it): {code, output}.
  async onTerminal(args, question, answer) {
    const command = [binary('chatfleet'), 'dlq', ...args].map((word) => `'${word}'`).join(' ');
    const child = spawn('script', ['-qec', command, '/dev/null'], { env: plainEnvironment(this.env()) });
    const { promise, resolve } = later(`chatfleet dlq ${args.join(' ')} ends`);
    let output = '', asked = false, typed;
    child.stdout.on('data', (text) => {
      output += text;
      if (asked || !question.test(output)) return;
      asked = true;
      typed = Promise.resolve(typeof answer === 'function' ? answer() : answer);
      typed.then((text) => child.stdin.write(`${text}\n`), () => child.kill());
    });
    child.on('close', resolve);
    const code = await promise;
    await typed; // fails with it
    return { code, output };
  }

  env(more = {}) {
    return { ...this.house.env, DATABASE_ADMIN_URL: this.house.database.adminUrl, ...more };
  }

  // conversation.create of a person's, which persistence refuses with nobody to tell. One without
  // further args succeeds when it is replayed, since the limit of age does not hold then.
  async refused(person, count, args = (i) => ({ title: `letter ${i}` })) {
    const ids = [];
    for (let i = 0; i < count; i++) {
      ids.push(longAgo());
      await this.caller.send('conversation.create', args(i), person.envelope({
        messageId: ids[i], replyTo: null,
      }));
    }
    await until(`${count} more letters of ${person.tenant}`, async () => {
      const there = await this.exported(of(person));
      return ids.every((id) => there.some((l) => l.properties.message_id === id));
    });
    return ids;
  }

  // Letters of a person's tenant, by and by: what a tool held comes back when its connection has ended.
  has(person, count) {
    return until(`${count} letters of ${person.tenant}`, async () =>
      (await this.exported(of(person))).length === count);
  }

  async waiting(queue) {
    return (await this.house.count(`${queue}.dlq`)).messageCount;
  }

  waits(queue, count) {
    return until(`${count} letters wait at ${queue}.dlq`, async () => (await this.waiting(queue)) === count);
  }

  // What a DLQ has, in its order, left as it is: as the tool exports it.
  async exported(args = []) {
    const { code, stdout, stderr } = await this.tool(['export', ...args, '-']);
    if (code !== 0) throw new Error(stderr);
    return stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  // The so many that a DLQ has, in its order, as a client sees them that hands all back. The broker sorts
  // headers when it counts deliveries.
  async seen(queue, count) {
    const { connection } = this.caller;
    const channel = await connection.createChannel();
    const found = [];
    await channel.consume(`${queue}.dlq`, (m) => { found.push(m); });
    await until(`${count} letters of ${queue} are seen`, () => found.length === count);
    await channel.close();
    await this.waits(queue, count);
    return found.map(({ properties, content }) => {
      const headers = Object.fromEntries(Object.entries(properties.headers).sort(([a], [b]) => (a < b ? -1 : 1)));
      delete headers['x-delivery-count'];
      return JSON.stringify([{ ...properties, headers }, content.toString('base64')]);
    });
  }

  ledger(where = 'true', params = []) {
    return this.house.database.rows(`SELECT * FROM chat.replay_ledger WHERE ${where} ORDER BY claimed_at`, params);
  }

  ledgerOf(person) {
    return this.ledger('tenant_id = $1', [person.tenant]);
  }

  // How many conversations a person has, by their ids.
  async conversations(person) {
    return (await this.house.database.rows('SELECT id, title FROM chat.conversations WHERE user_id = $1 ORDER BY id',
                                           [person.id]));
  }
}
