// A database of a test file's own in the runner's PostgreSQL, and what works in it.
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { wanted } from './environment.mjs';
import { run } from './processes.mjs';
import { uuid7 } from './uuid.mjs';

const ADMIN = new URL(wanted('DATABASE_ADMIN_URL'));
const WORKER = new URL(wanted('DATABASE_URL'));

// The same server and login, another database.
function inDatabase(url, name) {
  const other = new URL(url);
  other.pathname = `/${name}`;
  return other.href;
}

export async function connect(url) {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {}); // its database is dropped under it at the end
  await client.connect();
  return client;
}

async function asAdmin(...statements) {
  const client = await connect(ADMIN.href);
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

export class Database {
  #clients = [];
  #roles = [];

  static async open(name, { schema = false } = {}) {
    const database = new Database();
    database.name = `itest_${name}_${process.pid}_${Date.now().toString(36)}`;
    await asAdmin(`CREATE DATABASE ${database.name}`);
    if (schema) {
      const { code, stderr } = await database.schema(['apply']);
      if (code !== 0) throw new Error(`chatfleet schema apply: ${stderr}`);
    }
    return database;
  }

  get adminUrl() {
    return inDatabase(ADMIN, this.name);
  }

  get workerUrl() {
    return inDatabase(WORKER, this.name);
  }

  // A role of its own with a login and these attributes: its URL.
  async role(word, attributes = '') {
    const url = new URL(this.adminUrl);
    url.username = `${this.name}_${word}`;
    url.password = randomBytes(8).toString('hex');
    await asAdmin(`CREATE ROLE ${url.username} LOGIN PASSWORD '${url.password}' ${attributes}`);
    this.#roles.push(url.username);
    return url.href;
  }

  async client(url) {
    const client = await connect(url);
    this.#clients.push(client);
    return client;
  }

  // What a query as the administrator gives.
  async rows(sql, params) {
    if (!this.admin) {
      this.admin = await this.client(this.adminUrl);
      this.admin.on('end', () => { this.admin = undefined; }); // the server was restarted
    }
    return (await this.admin.query(sql, params)).rows;
  }

  async value(sql, params) {
    return Object.values((await this.rows(sql, params))[0] ?? {})[0];
  }

  // Puts messages into an empty conversation as turns would: questions and answers in turn, the first
  // a question. `content` gives the text of the one with this seq. Returns their ids.
  async converse(person, conversationId, count, content) {
    const time = Date.now();
    const seqs = Array.from({ length: count }, (_, i) => i + 1);
    const ids = seqs.map((seq) => uuid7(time - count + seq));
    await this.rows(
      `WITH made AS (INSERT INTO chat.messages (id, tenant_id, user_id, conversation_id, seq, sender_type, content,
         parent_message_id)
         SELECT id, $1, $2, $3, seq, CASE seq % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, content, parent
         FROM unnest($4::uuid[], $5::bigint[], $6::text[], $7::uuid[]) AS m (id, seq, content, parent))
       UPDATE chat.conversations SET next_seq = $8 WHERE id = $3`,
      [person.tenant, person.id, conversationId, ids, seqs, seqs.map(content),
       ids.map((_, i) => (i % 2 ? ids[i - 1] : null)), count + 1]);
    return ids;
  }

  // chatfleet schema …, as the administrator unless env says otherwise.
  schema(args, env = {}) {
    return run('chatfleet', ['schema', ...args], {
      DATABASE_ADMIN_URL: this.adminUrl, DATABASE_URL: this.workerUrl, ...env,
    });
  }

  async close() {
    for (const client of this.#clients) await client.end().catch(() => {});
    await asAdmin(`DROP DATABASE ${this.name} WITH (FORCE)`, ...this.#roles.map((role) => `DROP ROLE ${role}`));
  }
}

// Runs `work` in one transaction under these settings, as a worker does; undone when it fails.
export async function under(client, { scope, tenant, user }, work) {
  await client.query('BEGIN');
  try {
    const settings = { 'app.scope': scope, 'app.current_tenant_id': tenant, 'app.current_user_id': user };
    for (const [name, value] of Object.entries(settings)) {
      if (value !== undefined) await client.query('SELECT set_config($1, $2, true)', [name, value]);
    }
    const result = await work(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}
