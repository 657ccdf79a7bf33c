// PostgreSQL as the benches see it: databases of their own, made by DATABASE_ADMIN_URL and removed at
// the end.
'use strict';

const { spawn, execFile } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { promisify } = require('node:util');
const { cpuSeconds } = require('./measure.js');

const TENANT = 'default';

function urlFrom(name) {
  if (!process.env[name]) throw new Error(`${name} is not set; ./fleet bench does it`);
  return new URL(process.env[name]);
}

// psql with the statements on its standard input; answers with the rows as arrays of texts.
function psql(url, statements) {
  const where = new URL(url);
  const password = decodeURIComponent(where.password);
  where.password = '';
  return new Promise((resolve, reject) => {
    const child = spawn('psql',
      ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-d', where.href],
      { env: { ...process.env, PGPASSWORD: password } });
    let out = '', err = '';
    child.stdout.on('data', (d) => { out += d; });
    child.stderr.on('data', (d) => { err += d; });
    child.stdin.on('error', () => {});
    child.on('error', reject);
    child.on('close', (code) => {
      if (code !== 0) reject(new Error(`psql: ${err.trim()}`));
      else resolve(out.split('\n').filter(Boolean).map((line) => line.split('\t')));
    });
    child.stdin.end(statements);
  });
}

class Database {
  constructor(label) {
    this.name = `bench_${label}_${process.pid}`.replace(/[^a-z0-9_]/g, '_');
    this.url = this.urlOf('DATABASE_URL');
    this.adminUrl = this.urlOf('DATABASE_ADMIN_URL');
  }

  urlOf(name) {
    const url = urlFrom(name);
    url.pathname = '/' + this.name;
    return url.href;
  }

  async create() {
    await psql(urlFrom('DATABASE_ADMIN_URL').href, `CREATE DATABASE ${this.name}`);
    this.made = true;
  }

  // With the fleet's tables, as this build has them.
  async createWithSchema(bin) {
    await this.create();
    await promisify(execFile)(path.join(bin, 'chatfleet'), ['schema', 'apply'], {
      env: { PATH: process.env.PATH, DATABASE_URL: this.url, DATABASE_ADMIN_URL: this.adminUrl },
    });
  }

  async drop() {
    if (!this.made) return;
    await psql(urlFrom('DATABASE_ADMIN_URL').href, `DROP DATABASE ${this.name} WITH (FORCE)`)
      .catch(() => {});
  }

  sql(statements) {
    return psql(this.adminUrl, statements);
  }
}

// The server's first process, the parent of the others, when it runs on this machine.
async function postmaster() {
  const [[pid]] = await psql(urlFrom('DATABASE_ADMIN_URL').href,
    "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
  return Number(pid);
}

// User and system time of the server so far, in seconds: its processes', also of those that ended.
function serverCpuSeconds(pid) {
  const children = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((name) => {
    try {
      return fs.readFileSync(`/proc/${name}/stat`, 'utf8').split(') ').pop().split(' ')[1] ===
        String(pid);
    } catch {
      return false;
    }
  });
  return [...children.map((child) => cpuSeconds(child)).filter((s) => !Number.isNaN(s)),
    cpuSeconds(pid, true)].reduce((sum, s) => sum + s, 0);
}

// ---- rows ----

// A version 7 UUID of this time.
function uuid7(ms = Date.now()) {
  const hex = ms.toString(16).padStart(12, '0') + '7' + crypto.randomBytes(10).toString('hex')
    .slice(1, 4) + '8' + crypto.randomBytes(8).toString('hex').slice(1);
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
}

const copy = (table, columns, rows) =>
  `COPY ${table} (${columns}) FROM STDIN;\n${rows.map((row) => row.join('\t')).join('\n')}\n\\.\n`;

// Users, and conversations without messages that belong to them in turn: [{id, user}].
async function createUsers(db, count) {
  const users = Array.from({ length: count }, () => crypto.randomUUID());
  await db.sql(copy('auth.users', 'id', users.map((id) => [id])));
  return users;
}

async function createConversations(db, users, count) {
  const list = Array.from({ length: count }, (_, i) =>
    ({ id: uuid7(), user: users[i % users.length] }));
  await db.sql(copy('chat.conversations', 'id, tenant_id, user_id',
    list.map((c) => [c.id, TENANT, c.user])) + 'ANALYZE chat.conversations;');
  return list;
}

// Messages of these conversations up to a length, half of them answers, with their turns and usage: as
// if they had been written by turns, a millisecond after each other, in all conversations alike.
const fill = `
CREATE TEMP TABLE filled AS
SELECT c.id AS conversation_id, c.tenant_id, c.user_id, g.seq,
    chat.uuid7_floor(g.at)::text AS floor, g.at,
    gen_random_uuid()::text AS question, gen_random_uuid()::text AS answer,
    gen_random_uuid()::text AS turn
FROM wanted JOIN chat.conversations c USING (id),
    LATERAL (SELECT seq, now() - (:length - seq) * interval '1 ms' AS at
             FROM generate_series(1, :length, 2) seq) g;
UPDATE filled SET question = left(floor, 14) || '7' || substr(question, 16),
    answer = left(floor, 14) || '7' || substr(answer, 16), turn = left(floor, 14) || '7' || substr(turn, 16);
SET session_replication_role = replica; -- no look at the foreign key for each row
INSERT INTO chat.messages (id, tenant_id, user_id, conversation_id, seq, sender_type, sender_id,
    content, metadata, parent_message_id, turn_id, created_at)
SELECT m.id::uuid, f.tenant_id, f.user_id, f.conversation_id, m.seq, m.sender_type, m.sender_id,
    m.content, m.metadata::jsonb, m.parent::uuid, f.turn::uuid, f.at
FROM filled f, LATERAL (VALUES
    (question, seq, 'user', user_id, :'question', NULL, NULL),
    (answer, seq + 1, 'assistant', NULL, :'answer', :'metadata', question))
    m (id, seq, sender_type, sender_id, content, metadata, parent)
ORDER BY m.seq, f.conversation_id;
INSERT INTO chat.turns (id, tenant_id, user_id, conversation_id, kind, state, epoch, question_id,
    answer_id, created_at, finished_at)
SELECT turn::uuid, tenant_id, user_id, conversation_id, 'send', 'completed', 1, question::uuid,
    answer::uuid, at, at FROM filled ORDER BY seq, conversation_id;
INSERT INTO chat.usage_tracking (id, tenant_id, user_id, conversation_id, message_id, model_used,
    prompt_tokens, completion_tokens, total_tokens, created_at)
SELECT turn::uuid, tenant_id, user_id, conversation_id, answer::uuid, 'instant', 120, 38, 158, at
FROM filled ORDER BY seq, conversation_id;
UPDATE chat.conversations SET next_seq = :length + 1 WHERE id IN (SELECT id FROM wanted);
RESET session_replication_role;
DROP TABLE filled;
`;

async function fillConversations(db, conversations, length, { question, answer, metadata }) {
  const text = (s) => `'${s.replaceAll("'", "''")}'`;
  await db.sql(`CREATE TEMP TABLE wanted (id uuid PRIMARY KEY);
${copy('wanted', 'id', conversations.map((c) => [c.id]))}
\\set length ${length}
\\set question ${text(question)}
\\set answer ${text(answer)}
\\set metadata ${text(metadata)}
${fill}`);
}

// Whether the turns that were answered are there, each once, with all that belongs to them.
const sqlCounts = `
SELECT count(*), count(*) FILTER (WHERE state = 'completed') FROM chat.turns;
SELECT count(*) FILTER (WHERE sender_type = 'user'),
    count(*) FILTER (WHERE sender_type = 'assistant') FROM chat.messages;
SELECT count(*), 0 FROM chat.usage_tracking;
SELECT count(*), 0 FROM (SELECT c.id FROM chat.conversations c LEFT JOIN chat.messages m
    ON m.conversation_id = c.id GROUP BY c.id
    HAVING count(m.id) <> c.next_seq - 1 OR coalesce(max(m.seq), 0) <> c.next_seq - 1) odd;
`;

async function assertTurns(db, answered) {
  const [turns, messages, usage, odd] = (await db.sql(sqlCounts)).map((row) => row.map(Number));
  const found = { turns: turns[0], completed: turns[1], questions: messages[0],
    answers: messages[1], usage: usage[0] };
  if (Object.values(found).some((n) => n !== answered) || odd[0] !== 0) {
    throw new Error(`${answered} turns were answered, but the database has ` +
      `${JSON.stringify(found)} and ${odd[0]} conversations with gaps or doubles`);
  }
}

module.exports = {
  Database, postmaster, serverCpuSeconds, createUsers, createConversations, fillConversations,
  assertTurns, uuid7, copy,
};
