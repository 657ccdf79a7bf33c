// chatfleet schema: migrations, and what the tables let a worker's role see and do.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Database, under } from './lib/database.mjs';
import { run } from './lib/processes.mjs';
import { uuid7 } from './lib/uuid.mjs';

const FOLDER = fileURLToPath(new URL('../../schema', import.meta.url));
const FILES = fs.readdirSync(FOLDER).filter((name) => /^\d{3}_.*\.sql$/.test(name) && !name.startsWith('000'));
const TABLES = ['conversations', 'messages', 'turns', 'usage_tracking', 'idempotency_keys', 'identities'];
// Of tenants, not of persons.
const TENANT_TABLES = ['tenants', 'tenant_spending'];

const oneLine = (text, pattern) => {
  assert.match(text, pattern);
  assert.equal(text.trim().split('\n').length, 1, text);
};

// A database for one test.
async function withDatabase(name, work) {
  const database = await Database.open(name);
  try {
    await work(database);
  } finally {
    await database.close();
  }
}

async function applied(database, env) {
  const { code, stdout, stderr } = await database.schema(['apply'], env);
  assert.equal(code, 0, stderr);
  return stdout;
}

const ledger = async (database) =>
  (await database.rows('SELECT name FROM chat.schema_migrations ORDER BY version')).map((row) => row.name);

describe('chatfleet schema', () => {
  it('applies each file once, and tells what is applied', () => withDatabase('apply', async (database) => {
    const empty = await database.schema(['status']);
    assert.equal(empty.code, 2, empty.stderr);
    assert.equal(empty.stdout.match(/pending/g).length, FILES.length);
    assert.equal(await database.value("SELECT count(*)::int FROM pg_namespace WHERE nspname = 'chat'"), 0,
                 'asking makes nothing');

    const first = await applied(database);
    assert.deepEqual(first.match(/^applied (\S+)/gm).map((line) => line.slice(8)), FILES);
    assert.deepEqual(await ledger(database), FILES);

    const again = await applied(database);
    assert.doesNotMatch(again, /^applied|partitions/m);

    const full = await database.schema(['status']);
    assert.equal(full.code, 0, full.stderr);
    assert.doesNotMatch(full.stdout, /pending|CHANGED/);
    const { code, stdout } = await database.schema(['status', '--json']);
    assert.equal(code, 0);
    const { applied: all, migrations } = JSON.parse(stdout);
    assert.equal(all, true);
    assert.deepEqual(migrations.map(({ name, state }) => [name, state]), FILES.map((name) => [name, 'applied']));
    for (const { applied_at: at } of migrations) assert.ok(Date.now() - Date.parse(at) < 60000, at);
  }));

  it('waits for another that is at work', () => withDatabase('twice', async (database) => {
    const both = await Promise.all([database.schema(['apply']), database.schema(['apply'])]);
    for (const { code, stderr } of both) assert.equal(code, 0, stderr);
    assert.equal(both.map(({ stdout }) => stdout).join('').match(/^applied /gm).length, FILES.length);
    assert.deepEqual(await ledger(database), FILES);
  }));

  it('tells the status to the workers\' role, too', () => withDatabase('asworker', async (database) => {
    await applied(database);
    const { code, stderr } = await database.schema(['status'], { DATABASE_ADMIN_URL: undefined });
    assert.equal(code, 0, stderr);
  }));

  it('refuses a file that changed since', () => withDatabase('changed', async (database) => {
    await applied(database);
    await database.rows("UPDATE chat.schema_migrations SET checksum = repeat('0', 64) WHERE version = 2");
    const status = await database.schema(['status']);
    assert.equal(status.code, 1);
    assert.match(status.stdout, /^002 .*CHANGED/m);
    oneLine(status.stderr, /002_conversations\.sql/);
    const { migrations, applied: all } = JSON.parse((await database.schema(['status', '--json'])).stdout);
    assert.equal(all, false);
    assert.equal(migrations[1].state, 'changed');
    const apply = await database.schema(['apply']);
    assert.equal(apply.code, 1);
    oneLine(apply.stderr, /002_conversations\.sql/);
  }));

  it('knows migrations of a newer build, and refuses one that comes too late',
     () => withDatabase('order', async (database) => {
       await applied(database);
       await database.rows("INSERT INTO chat.schema_migrations VALUES (900, '900_later.sql', 'x')");
       const { code, stdout } = await database.schema(['status']);
       assert.equal(code, 0);
       assert.match(stdout, /^900 .*newer/m);
       await applied(database);
       await database.rows('DELETE FROM chat.schema_migrations WHERE version = 5');
       const late = await database.schema(['apply']);
       assert.equal(late.code, 1);
       oneLine(late.stderr, /005_access\.sql.*900_later\.sql/);
     }));

  it('undoes a migration that fails, and says where it did', () => withDatabase('fails', async (database) => {
    await database.rows('CREATE SCHEMA chat CREATE TABLE idempotency_keys (wrong int)');
    const { code, stdout, stderr } = await database.schema(['apply']);
    assert.equal(code, 1);
    const [told, line] = stderr.match(/004_turns\.sql, line (\d+): relation "idempotency_keys" already exists/);
    assert.ok(told);
    const text = fs.readFileSync(path.join(FOLDER, '004_turns.sql'), 'utf8').split('\n');
    assert.match(text[line - 1], /CREATE TABLE chat\.idempotency_keys/);
    assert.deepEqual(stdout.match(/^applied (\S+)/gm).map((name) => name.slice(8)), FILES.slice(0, 3));
    assert.deepEqual(await ledger(database), FILES.slice(0, 3));
    assert.equal(await database.value("SELECT to_regclass('chat.turns')"), null);
    assert.equal((await database.schema(['status'])).code, 2);

    await database.rows('DROP TABLE chat.idempotency_keys');
    await applied(database);
    assert.deepEqual(await ledger(database), FILES);
  }));

  it('does not wait for locks for ever', () => withDatabase('locks', async (database) => {
    await database.rows('CREATE SCHEMA auth CREATE TABLE users (id uuid PRIMARY KEY)');
    const other = await database.client(database.adminUrl);
    await other.query('BEGIN; LOCK TABLE auth.users');
    const { code, stderr } = await database.schema(['apply'], { SCHEMA_LOCK_TIMEOUT_MS: '50' });
    assert.equal(code, 1);
    assert.match(stderr, /^chatfleet: \d+_\w+\.sql, line \d+: .*lock timeout/);
    await other.query('ROLLBACK');
    await applied(database);
  }));

  describe('as whom', () => {
    let database;

    before(async () => {
      database = await Database.open('whom');
    });
    after(() => database.close());

    it('refuses a role that policies bind', async () => {
      const weak = await database.role('weak', 'CREATEROLE');
      await database.rows(`GRANT ALL ON DATABASE ${database.name} TO ${new URL(weak).username}`);
      const { code, stdout, stderr } = await database.schema(['apply'], { DATABASE_ADMIN_URL: weak });
      assert.equal(code, 78);
      assert.equal(stdout, '');
      oneLine(stderr, /_weak .*BYPASSRLS/);
      assert.equal(await database.value("SELECT count(*)::int FROM pg_namespace WHERE nspname = 'chat'"), 0);
    });

    it('works as one with BYPASSRLS that is no superuser', () => withDatabase('bypass', async (other) => {
      const admin = await other.role('admin', 'BYPASSRLS CREATEROLE');
      await other.rows(`ALTER DATABASE ${other.name} OWNER TO ${new URL(admin).username}`);
      await applied(other, { DATABASE_ADMIN_URL: admin });
      assert.equal(await other.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'chat.turns'::regclass"),
                   new URL(admin).username);
      const worker = await other.client(other.workerUrl);
      await household(worker, 'default', randomUUID());
    }));

    it('makes the workers\' role a member of chat_worker', async () => {
      const worker = await database.role('worker');
      const url = worker.replace('postgresql:', 'postgresql+asyncpg:');
      assert.match(await applied(database, { DATABASE_URL: url }), /^granted chat_worker to itest_whom\w*_worker$/m);
      assert.doesNotMatch(await applied(database, { DATABASE_URL: url }), /granted/);
      const client = await database.client(worker);
      assert.deepEqual((await client.query('SELECT * FROM chat.conversations')).rows, []);
      assert.equal((await client.query('SELECT chat.worker_role_fault() AS fault')).rows[0].fault, null);
    });

    const refused = (what, make, pattern) => it(`refuses as the workers' role ${what}`, async () => {
      const { code, stderr } = await database.schema(['apply'], { DATABASE_URL: await make() });
      assert.equal(code, 78, stderr);
      oneLine(stderr, pattern);
    });

    refused('the administrator', () => database.adminUrl, /superuser/);
    refused('one that may bypass the policies', () => database.role('bypass', 'BYPASSRLS'), /BYPASSRLS/);
    refused('one that may become such', async () => {
      await database.role('strong', 'BYPASSRLS');
      return database.role('member', `IN ROLE ${database.name}_strong`);
    }, /may become/);
    refused('an owner', async () => {
      const owner = await database.role('owner');
      await database.rows(`CREATE TABLE chat.mine (); ALTER TABLE chat.mine OWNER TO ${new URL(owner).username}`);
      return owner;
    }, /owns tables/);
    refused('one that does not exist', () => {
      const url = new URL(database.workerUrl);
      url.username = 'nobody_at_all';
      return url.href;
    }, /nobody_at_all/);
    refused('none', () => database.workerUrl.replace(/\/\/.*@/, '//'), /names no user/);
  });

  describe('reaching the server', () => {
    it('says when it cannot, without a password', async () => {
      for (const [code, url] of [[69, 'postgresql://u:secret@127.0.0.1:1/x'], [78, 'mysql://u:secret@h/x'],
                                 [78, 'postgresql://u:secret@h:1/x?nonsense=1'], [78, '']]) {
        for (const verb of ['apply', 'status']) {
          const { code: got, stdout, stderr } = await run('chatfleet', ['schema', verb], { DATABASE_ADMIN_URL: url });
          assert.equal(got, code, stderr);
          assert.equal(stdout, '');
          assert.match(stderr, /^chatfleet: DATABASE_ADMIN_URL/);
          assert.ok(!stderr.includes('secret'), stderr);
        }
      }
    });

    it('takes the URL from a file', () => withDatabase('file', async (database) => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chatfleet-schema-'));
      fs.writeFileSync(path.join(folder, 'url'), `${database.adminUrl}\n`);
      const env = { DATABASE_ADMIN_URL: undefined, DATABASE_ADMIN_URL_FILE: path.join(folder, 'url') };
      const { code, stderr } = await database.schema(['status'], env);
      fs.rmSync(folder, { recursive: true });
      assert.equal(code, 2, stderr);
    }));

    it('refuses wrong usage', async () => {
      for (const args of [[], ['drop'], ['apply', 'more'], ['apply', '--json'], ['status', '--nonsense']]) {
        const { code, stderr } = await run('chatfleet', ['schema', ...args]);
        assert.equal(code, 64, args.join(' '));
        assert.ok(stderr.length > 0);
      }
    });
  });
});

// Puts a conversation with a row in each table, as a worker does: its id.
async function household(worker, tenant, user) {
  const id = uuid7(), turn = uuid7(), question = uuid7(), answer = uuid7();
  await under(worker, { scope: 'user', tenant, user }, async (client) => {
    const owner = [tenant, user];
    await client.query('SELECT chat.provision_user($1)', [user]);
    await client.query('INSERT INTO chat.conversations (id, tenant_id, user_id) VALUES ($3, $1, $2)', [...owner, id]);
    for (const [seq, message, sender] of [[1, question, 'user'], [2, answer, 'assistant']]) {
      await client.query(`INSERT INTO chat.messages (id, tenant_id, user_id, conversation_id, seq, sender_type, content)
                          VALUES ($3, $1, $2, $4, $5, $6, 'text')`, [...owner, message, id, seq, sender]);
    }
    await client.query(`INSERT INTO chat.turns (id, tenant_id, user_id, conversation_id, kind, question_id, answer_id)
                        VALUES ($3, $1, $2, $4, 'send', $5, $6)`, [...owner, turn, id, question, answer]);
    await client.query(`INSERT INTO chat.usage_tracking (id, tenant_id, user_id, conversation_id, message_id, model_used,
                        cost_credits) VALUES ($3, $1, $2, $4, $5, 'offline', 0.000123)`, [...owner, turn, id, answer]);
    await client.query(`INSERT INTO chat.idempotency_keys (tenant_id, user_id, key, operation, payload_hash, message_id)
                        VALUES ($1, $2, 'k', 'message.send', $3, $3)`, [...owner, turn]);
    await client.query("INSERT INTO chat.identities (tenant_id, user_id, subject) VALUES ($1, $2, 'ann')", owner);
  });
  return { id, tenant, user, question };
}

describe('the tables, as a worker', () => {
  let database, worker, ann, bob, cleo;
  const count = (table, settings) => under(worker, settings, async (client) =>
    (await client.query(`SELECT count(*)::int AS n FROM chat.${table}`)).rows[0].n);
  const as = ({ tenant, user }) => ({ scope: 'user', tenant, user });
  const denied = (work, code) => assert.rejects(work, (error) => error.code === code || assert.fail(error));

  before(async () => {
    database = await Database.open('tables');
    await applied(database);
    worker = await database.client(database.workerUrl);
    ann = await household(worker, 'acme', randomUUID());
    bob = await household(worker, 'acme', randomUUID());
    cleo = await household(worker, 'other', ann.user); // the same person's id in another tenant
  });
  after(() => database.close());

  it('nothing is visible without an identity', async () => {
    for (const settings of [{}, { scope: '' }, { scope: 'user' }, { scope: 'everything', tenant: 'acme', user: ann.user },
                            { scope: 'user', tenant: 'acme' }, { scope: 'user', user: ann.user }, { scope: 'tenant' },
                            { tenant: 'acme', user: ann.user }, { scope: 'tenant', tenant: '' },
                            { scope: 'user', tenant: 'acme', user: '' }]) {
      for (const table of TABLES) assert.equal(await count(table, settings), 0, `${table} ${JSON.stringify(settings)}`);
    }
  });

  it('a user sees his own rows, a tenant\'s administrator the tenant\'s, the system all', async () => {
    for (const table of TABLES) {
      const each = table === 'messages' ? 2 : 1;
      for (const person of [ann, bob, cleo]) assert.equal(await count(table, as(person)), each, table);
      assert.equal(await count(table, { scope: 'tenant', tenant: 'acme' }), 2 * each, table);
      assert.equal(await count(table, { scope: 'tenant', tenant: 'other', user: bob.user }), each, table);
      assert.equal(await count(table, { scope: 'system' }), 3 * each, table);
    }
  });

  it('a row of somebody else can neither be changed nor deleted', async () => {
    for (const table of TABLES) {
      for (const sql of [`DELETE FROM chat.${table} WHERE user_id = $1`,
                         `UPDATE chat.${table} SET tenant_id = tenant_id WHERE user_id = $1`]) {
        const { rowCount } = await under(worker, as(bob), (client) => client.query(sql, [ann.user]));
        assert.equal(rowCount, 0, sql);
      }
      // Nor can one's own be given away.
      await denied(under(worker, as(bob), (client) =>
        client.query(`UPDATE chat.${table} SET user_id = $1`, [ann.user])), '42501');
    }
  });

  it('nobody writes into another\'s conversation', async () => {
    const message = `INSERT INTO chat.messages (id, tenant_id, user_id, conversation_id, seq, sender_type, content)
                     VALUES ($1, $2, $3, $4, 3, 'user', 'mine?')`;
    for (const scope of ['user', 'system']) { // as oneself: the policy lets it pass, the foreign key does not
      await denied(under(worker, { ...as(bob), scope }, (client) =>
        client.query(message, [uuid7(), 'acme', bob.user, ann.id])), '23503');
    }
    await denied(under(worker, as(bob), (client) => // in her name
      client.query(message, [uuid7(), 'acme', ann.user, ann.id])), '42501');
    await denied(under(worker, as(ann), (client) => // from another tenant
      client.query(message, [uuid7(), 'acme', ann.user, cleo.id])), '23503');
    await denied(under(worker, as(bob), (client) =>
      client.query(`INSERT INTO chat.turns (id, tenant_id, user_id, conversation_id, kind, question_id, answer_id)
                    VALUES ($1, 'acme', $2, $3, 'send', $1, $1)`, [uuid7(), bob.user, ann.id])), '23503');
  });

  it('an id that somebody else has is a conflict, and shows nothing', async () => {
    const { rows, rowCount } = await under(worker, as(bob), (client) =>
      client.query(`INSERT INTO chat.conversations (id, tenant_id, user_id) VALUES ($1, 'acme', $2)
                    ON CONFLICT DO NOTHING RETURNING *`, [ann.id, bob.user]));
    assert.equal(rowCount, 0);
    assert.deepEqual(rows, []);
  });

  it('partitions and what belongs to the administrator are out of reach', async () => {
    const partitions = await database.rows(`SELECT inhrelid::regclass::text AS name FROM pg_inherits
                                            WHERE inhparent = 'chat.messages'::regclass`);
    assert.equal(partitions.length, 6);
    for (const { name } of partitions) {
      for (const sql of [`SELECT FROM ${name}`, `DELETE FROM ${name}`]) {
        await denied(under(worker, { scope: 'system' }, (client) => client.query(sql)), '42501');
      }
    }
    for (const sql of ['TRUNCATE chat.messages', 'SELECT FROM auth.users', 'DELETE FROM chat.schema_migrations',
                       'DROP TABLE chat.turns', 'CREATE TABLE chat.mine ()', 'ALTER TABLE chat.turns DISABLE ROW LEVEL SECURITY',
                       'SELECT chat.messages_partitions_ensure(99)', "SELECT chat.protect('chat.turns')",
                       'SET ROLE chatfleet_admin']) {
      await denied(under(worker, { scope: 'system' }, (client) => client.query(sql)), '42501');
    }
    // Whoever is granted a partition by mistake still sees nothing of it.
    await database.rows('GRANT SELECT ON ALL TABLES IN SCHEMA chat TO chat_worker');
    const { name } = (await database.rows('SELECT tableoid::regclass::text AS name FROM chat.messages LIMIT 1'))[0];
    assert.equal(await count(name.replace('chat.', ''), { scope: 'system' }), 0);
  });

  it('every table of a tenant is protected', async () => {
    const open = await database.rows(`
      SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
      WHERE c.relnamespace = 'chat'::regnamespace AND c.relkind IN ('r', 'p')
        AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`);
    assert.deepEqual(open, []);
    assert.deepEqual((await database.rows(`SELECT polrelid::regclass::text AS name FROM pg_policy
                                           ORDER BY 1`)).map((row) => row.name).sort(),
                     [...TABLES, ...TENANT_TABLES].map((table) => `chat.${table}`).sort());
  });

  it('settings of tenants are changed by the system alone, and seen by the tenant', async () => {
    await under(worker, { scope: 'system' }, async (client) => {
      for (const tenant of ['acme', 'other']) {
        await client.query('INSERT INTO chat.tenants (tenant_id, day_budget) VALUES ($1, 1)', [tenant]);
        await client.query(`INSERT INTO chat.tenant_spending (tenant_id, since, day, day_cost, day_tokens, month, month_cost,
          month_tokens) VALUES ($1, now(), now(), 0, 0, now(), 0, 0)`, [tenant]);
      }
    });
    for (const table of TENANT_TABLES) {
      for (const settings of [{}, { scope: 'user', user: ann.user }, { scope: 'tenant' }]) assert.equal(await count(table, settings), 0);
      for (const settings of [as(ann), { scope: 'tenant', tenant: 'acme' }]) assert.equal(await count(table, settings), 1);
      assert.equal(await count(table, { scope: 'system' }), 2);
    }
    for (const settings of [as(ann), { scope: 'tenant', tenant: 'acme' }]) {
      await denied(under(worker, settings, (client) => client.query('UPDATE chat.tenants SET day_budget = 2')), '42501');
      const { rowCount } = await under(worker, settings, (client) => client.query('UPDATE chat.tenant_spending SET day_cost = 1'));
      assert.equal(rowCount, 1, 'its own');
    }
    for (const table of TENANT_TABLES) {
      await denied(under(worker, { scope: 'system' }, (client) => client.query(`DELETE FROM chat.${table}`)), '42501');
    }
  });

  it('policies leave indexes in use, and ask no other table', async () => {
    const plan = await under(worker, as(ann), async (client) => {
      await client.query('SET LOCAL enable_seqscan = off');
      return (await client.query(`EXPLAIN SELECT * FROM chat.messages WHERE conversation_id = $1 ORDER BY seq`, [ann.id]))
        .rows.map((row) => row['QUERY PLAN']).join('\n');
    });
    assert.match(plan, /Index Cond: \(conversation_id = /);
    assert.doesNotMatch(plan, /SubPlan|InitPlan/);
  });

  it('deleting a conversation takes its messages along, but not what they cost', async () => {
    const dora = await household(worker, 'acme', randomUUID());
    await denied(under(worker, as(dora), (client) => client.query('DELETE FROM chat.conversations')), '23503');
    await under(worker, as(dora), async (client) => {
      await client.query('DELETE FROM chat.usage_tracking');
      await client.query('DELETE FROM chat.conversations');
    });
    assert.equal(await database.value('SELECT count(*)::int FROM chat.messages WHERE user_id = $1', [dora.user]), 0);
    assert.equal(await database.value('SELECT count(*)::int FROM chat.turns WHERE user_id = $1', [dora.user]), 0);
  });
});

describe('users and months', () => {
  it('leaves an auth.users that is there as it is', () => withDatabase('users', async (database) => {
    await database.rows(`CREATE SCHEMA auth CREATE TABLE users (id uuid PRIMARY KEY, email text)`);
    await applied(database);
    assert.deepEqual((await database.rows(`SELECT attname FROM pg_attribute WHERE attrelid = 'auth.users'::regclass
                                           AND attnum > 0`)).map((row) => row.attname), ['id', 'email']);
    const worker = await database.client(database.workerUrl);
    const user = randomUUID();
    const conversation = (client) => client.query(
      "INSERT INTO chat.conversations (id, tenant_id, user_id) VALUES ($1, 'default', $2)", [uuid7(), user]);
    const settings = { scope: 'user', tenant: 'default', user };
    await assert.rejects(under(worker, settings, conversation), { code: '23503' });
    const provision = async () => (await worker.query('SELECT chat.provision_user($1) AS made', [user])).rows[0].made;
    assert.equal(await provision(), true);
    assert.equal(await provision(), false);
    await under(worker, settings, conversation);
  }));

  it('chat.uuid7_floor is where a millisecond begins', () => withDatabase('floor', async (database) => {
    await applied(database);
    for (const at of ['1970-01-01T00:00:00.000Z', '2026-11-21T03:29:03.123Z', '2026-12-01T00:00:00.000Z',
                      '9999-12-31T23:59:59.999Z']) {
      const ms = Date.parse(at).toString(16).padStart(12, '0');
      const floor = await database.value('SELECT chat.uuid7_floor($1::timestamptz)', [at]);
      assert.equal(floor, `${ms.slice(0, 8)}-${ms.slice(8)}-0000-0000-000000000000`, at);
      assert.equal(await database.value('SELECT $1::uuid >= chat.uuid7_floor($2::timestamptz)',
                                        [uuid7(Date.parse(at)), at]), true);
    }
    // Fractions of a millisecond go down.
    assert.equal(await database.value(`SELECT chat.uuid7_floor('2026-11-21T03:29:03.1239Z')
                                         = chat.uuid7_floor('2026-11-21T03:29:03.123Z')`), true);
    assert.equal(await database.value(`SELECT chat.uuid7_floor('2026-11-21T03:29:03.123Z')
                                         > $1::uuid`, [uuid7(Date.parse('2026-11-21T03:29:03.122Z'))]), true);
  }));

  it('has a partition for each month ahead, and empties the default one', () => withDatabase('months', async (database) => {
    const partitions = async () => (await database.rows(`
      SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'chat.messages'::regclass ORDER BY 1`))
      .map((row) => row.name.replace('chat.', ''));
    const month = (ahead) => {
      const now = new Date();
      return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + ahead, 1));
    };
    const name = (ahead) => `messages_${month(ahead).toISOString().slice(0, 7).replace('-', '_')}`;
    assert.match(await applied(database), /made 5 monthly partitions/);
    const wantedNames = Array.from({ length: 5 }, (_, i) => name(i - 1));
    assert.deepEqual(await partitions(), [...wantedNames, 'messages_default']);

    // What falls out of the months goes to the default, until its month is made.
    const worker = await database.client(database.workerUrl);
    const { id, tenant, user } = await household(worker, 'acme', randomUUID());
    const first = month(4).getTime();
    const times = [first - 1, first, month(5).getTime() - 1, month(5).getTime(), month(-1).getTime() - 1];
    await under(worker, { scope: 'user', tenant, user }, async (client) => {
      for (const time of times) {
        await client.query(`INSERT INTO chat.messages (id, tenant_id, user_id, conversation_id, seq, sender_type, content)
                            VALUES ($1, $2, $3, $4, 3, 'user', 'later')`, [uuid7(time), tenant, user, id]);
      }
    });
    const defaults = () => database.value('SELECT count(*)::int FROM chat.messages_default');
    assert.equal(await defaults(), 4);
    assert.equal(await database.value('SELECT chat.messages_partitions_ensure(4)'), 1);
    assert.equal(await defaults(), 2);
    assert.equal(await database.value(`SELECT count(*)::int FROM chat.${name(4)}`), 2);
    assert.equal(await database.value('SELECT count(*)::int FROM chat.messages'), 7);
    assert.equal(await database.value('SELECT chat.messages_partitions_ensure(4)'), 0);

    // A month that was made later is like the others.
    await assert.rejects(worker.query(`SELECT FROM chat.${name(4)}`), { code: '42501' });
    await assert.rejects(database.rows(`UPDATE chat.${name(4)} SET tenant_id = 'other'`), { code: '23503' });
    const { rowCount } = await under(worker, { scope: 'user', tenant, user: randomUUID() }, (client) =>
      client.query('SELECT FROM chat.messages'));
    assert.equal(rowCount, 0);
    // The partition that apply misses comes back with the next one.
    await database.rows(`DROP TABLE chat.${name(3)}`);
    assert.match(await applied(database), /made 1 monthly partition/);
  }));
});
