// chatfleet dlq: looking at dead letters, keeping them in files, dropping them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { Letters, of, somebody } from './lib/letters.mjs';
import { until } from './lib/wait.mjs';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

describe('dead letters', () => {
  let house, caller, letters;

  before(async () => {
    house = await House.open('dlq', { database: true });
    await house.persistence();
    caller = await house.caller();
    letters = new Letters(house, caller);
  });
  after(() => house.close());

  // A foreign dead letter.
  const odd = (tenant) => ({
    contentType: 'application/octet-stream', type: 'order/placed', appId: 'shop', priority: 3,
    timestamp: 1700000000, persistent: true,
    headers: {
      'x-tenant-id': tenant, flag: true, number: -5, real: 1.5, nothing: null, list: [1, 'two', { three: [3] }],
      table: { deep: { deeper: 'ü' } }, big: 2 ** 40, bytes: Buffer.from([0, 1, 255]),
      when: { '!': 'timestamp', value: 1700000001 },
    },
  });
  const BYTES = Buffer.from([0xff, 0xfe, 0, 1, 2, 0x80]);
  const put = (tenant, more = {}, queue = 'persistence') => new Promise((resolve, reject) => {
    caller.channel.publish('', `${queue}.dlq`, BYTES, { ...odd(tenant), ...more },
                           (e) => (e ? reject(e) : resolve()));
  });

  describe('list', () => {
    it('counts by queue, cause, operation and tenant', async () => {
      const person = somebody();
      await letters.refused(person, 3);
      await letters.refused(person, 1, () => ({ title: '' }));
      const { code, json, stderr } = await letters.tool(['list', ...of(person), '--json']);
      assert.equal(code, 0, stderr);
      const queue = json.find((q) => q.queue === 'persistence');
      assert.equal(queue.count, 4);
      assert.equal(queue.uncertain, 0);
      assert.ok(Date.parse(queue.oldest) <= Date.parse(queue.newest));
      assert.deepEqual(queue.operations, [{ text: 'conversation.create', count: 4 }]);
      assert.deepEqual(queue.tenants, [{ text: person.tenant, count: 4 }]);
      assert.deepEqual(queue.causes.map((c) => c.count), [3, 1]);
      assert.match(queue.causes[0].text, /^reject: the message_id's time/);
      const text = await letters.tool(['list', ...of(person)]);
      assert.match(text.stdout, /^persistence +4 /m);
      assert.match(text.stdout, /cause +3 {2}reject: the message_id's time/);
    });

    it('--ids names each letter on a line, which show and replay take', async () => {
      const person = somebody();
      const ids = await letters.refused(person, 3);
      await new Promise((resolve) => {
        caller.channel.publish('', 'persistence.dlq', Buffer.from('{}'), {
          messageId: randomUUID(), type: 'odd', headers: { 'x-tenant-id': person.tenant, 'x-error': 'red \x1b[31m\nnext\u0085' },
        }, resolve);
      });
      await letters.has(person, 4);
      const all = await letters.exported(of(person));
      const { code, stdout } = await letters.tool(['list', '--ids', ...of(person)]);
      assert.equal(code, 0);
      const lines = stdout.trimEnd().split('\n');
      assert.deepEqual(lines.map((line) => line.split(/ +/)[0]), all.map((l) => l.id));
      assert.match(lines[3], / {2}persistence {2}odd {2}\S+ {2}red \?\[31m\?next\?$/);
      const objects = (await letters.tool(['list', '--ids', '--json', ...of(person)])).stdout.trimEnd().split('\n')
        .map((line) => JSON.parse(line));
      assert.deepEqual(objects.map((o) => [o.id, o.queue, o.operation, o.tenant, o.error, o.failed_at]),
                       all.map((l) => [l.id, l.queue, l.operation, person.tenant, l.error, l.failed_at]));
      const [first, , third] = objects;
      assert.equal((await letters.tool(['show', first.id, '--json'])).json.properties.message_id, ids[0]);
      assert.equal((await letters.replay(person, '--id', third.id.toUpperCase())).json.succeeded, 1);
      assert.deepEqual((await letters.conversations(person)).map((c) => c.id), [ids[2]]);
      const { json } = await letters.tool(['replay', '--id', `${first.id},${randomUUID()}`, '--json']);
      assert.equal(json.succeeded, 1);
      assert.deepEqual((await letters.exported(of(person))).map((l) => l.id), [all[1].id, all[3].id]);
    });

    it('works without a database, and says so', async () => {
      for (const url of ['', 'postgresql://nobody@127.0.0.1:1/none']) {
        const { code, stdout } = await letters.tool(['list'], { env: { DATABASE_ADMIN_URL: url } });
        assert.equal(code, 0);
        assert.match(stdout, /the ledger is not known: /);
      }
    });
  });

  describe('show', () => {
    it('tells all of one', async () => {
      const person = somebody();
      const [messageId] = await letters.refused(person, 1, () => ({ title: 'Grüße 🚀' }));
      const [{ id }] = await letters.exported(of(person));
      const { code, json } = await letters.tool(['show', id, '--json']);
      assert.equal(code, 0);
      assert.equal(json.id, id);
      assert.equal(json.queue, 'persistence');
      assert.equal(json.origin, 'worker');
      assert.equal(json.properties.message_id, messageId);
      assert.deepEqual(JSON.parse(json.body), { title: 'Grüße 🚀' });
      assert.equal(json.ledger, null);
      const { stdout } = await letters.tool(['show', id]);
      for (const part of [id, messageId, person.id, 'conversation.create', 'Grüße 🚀', 'not replayed yet',
                          'x-failed-by', 'x-error-kind']) assert.ok(stdout.includes(part), part);
    });

    it('says so when there is none', async () => {
      const { code, stderr } = await letters.tool(['show', randomUUID()]);
      assert.equal(code, 1);
      assert.match(stderr, /there is no dead letter/);
    });
  });

  describe('looking', () => {
    const QUEUE = 'persistence.commit'; // no other test uses its dead letters
    const COUNT = 50;
    let before_;

    before(async () => {
      for (let i = 0; i < COUNT; i++) {
        await caller.send('message.commit', { i }, { exchange: '', key: `${QUEUE}.dlq`, messageId: randomUUID() });
      }
      before_ = await letters.seen(QUEUE, COUNT);
    });
    after(async () => {
      const { json } = await letters.tool(['drop', '--queue', QUEUE, '--yes', '--json']);
      assert.equal(json.dropped, COUNT);
    });

    const unchanged = async () => assert.deepEqual(await letters.seen(QUEUE, COUNT), before_);

    for (const args of [['list'], ['list', '--queue', QUEUE, '--limit', '7'], ['show', randomUUID()], ['export'],
                        ['replay', '--all', '--dry-run'], ['drop', '--all', '--dry-run', '--yes']]) {
      it(`by ${args.slice(0, 3).join(' ')} changes neither order nor count nor contents`, async () => {
        await letters.tool(args);
        await unchanged();
      });
    }

    it('leaves all to the one who looks next, also when it is much', async () => {
      const MANY = 20000;
      const queue = 'persistence.read'; // likewise
      const { channel } = caller;
      const look = async (...args) => {
        const { code, json, stderr } = await letters.tool(['list', '--queue', queue, '--json', ...args]);
        assert.equal(code, 0, stderr);
        assert.equal(stderr, '');
        return json[0].count;
      };
      try {
        for (let i = 0; i < MANY; i++) channel.sendToQueue(`${queue}.dlq`, Buffer.from('{}'), { messageId: randomUUID() });
        await letters.waits(queue, MANY);
        for (let i = 0; i < 3; i++) {
          assert.equal(await look(), MANY);
          assert.equal(await letters.waiting(queue), MANY);
        }
        assert.equal(await look('--limit', '5'), 5); // and the others, which came along
        assert.equal(await look(), MANY);
      } finally {
        await channel.purgeQueue(`${queue}.dlq`);
      }
    });

    it('changes nothing when the tool is killed in the middle', async () => {
      const { code } = await letters.tool(['list', '--queue', QUEUE], { env: { CHATFLEET_FAULT: 'browse.letter:7' } });
      assert.equal(code, 'SIGKILL');
      await unchanged();
    });
  });

  describe('while another tool is at work', () => {
    it('it is said that its letters are not seen', async () => {
      const person = somebody();
      await letters.refused(person, 2);
      const [{ id }] = await letters.exported(of(person));
      const seen = {};
      const held = await letters.onTerminal(['drop', ...of(person)], /Drop these 2 letters/, async () => {
        seen.list = await letters.tool(['list', ...of(person), '--json']);
        seen.show = await letters.tool(['show', id]);
        seen.replay = await letters.replay(person);
        return 'no';
      });
      assert.equal(held.code, 1, held.output);
      for (const [name, { stderr }] of Object.entries(seen)) assert.match(stderr, /another `chatfleet dlq` is at work/, name);
      const listed = seen.list.json.find((q) => q.queue === 'persistence');
      assert.deepEqual([listed.count, listed.other_tools], [0, 1]);
      assert.equal(seen.show.code, 1);
      assert.match(seen.show.stderr, /no dead letter \S+ among those that nobody else holds/);
      assert.deepEqual([seen.replay.code, seen.replay.json.replayed, seen.replay.json.other_tools], [0, 0, 1]);
      const { json, stderr } = await letters.tool(['list', ...of(person), '--json']);
      assert.deepEqual([json.map((q) => q.other_tools), stderr], [json.map(() => 0), '']);
      assert.equal(json.find((q) => q.queue === 'persistence').count, 2);
    });

    it('all works without the queue that tells it', async () => {
      const person = somebody();
      await letters.refused(person, 1);
      const other = await caller.connection.createChannel();
      await other.deleteQueue('chat.dlq.tools');
      await other.assertQueue('chat.dlq.tools', { durable: true }); // with other arguments
      try {
        const { code, json, stderr } = await letters.tool(['list', ...of(person), '--json']);
        assert.equal(code, 0);
        assert.match(stderr, /whether others are at work is not known: .*chat\.dlq\.tools/);
        assert.deepEqual(json.map((q) => q.other_tools), json.map(() => null));
        assert.equal(json.find((q) => q.queue === 'persistence').count, 1);
        assert.equal((await letters.replay(person)).json.succeeded, 1);
      } finally {
        await other.deleteQueue('chat.dlq.tools');
        await other.close();
      }
    });
  });

  describe('filters', () => {
    let person, other;

    before(async () => {
      [person, other] = [somebody(), somebody()];
      other.tenant = person.tenant;
      await letters.refused(person, 3, (i) => ({ title: `n${i}`, metadata: { 'a/b': [{ n: i }] } }));
      await letters.refused(other, 2, () => ({ title: '', metadata: { flag: true } }));
    });

    const cases = [
      ['--queue', 'persistence', 5], ['--queue', 'persistence.dlq', 5], ['--queue', 'inference', 0],
      ['--operation', 'conversation.create', 5], ['--operation', 'conversation.*', 5], ['--operation', 'message.*', 0],
      ['--error', '*days ago*', 3], ['--error', '*not valid*', 2], ['--error', 'days', 0],
      ['--since', '1h', 5], ['--until', '1h', 0], ['--since', '2020-01-01', 5], ['--until', '2020-01-01T00:00Z', 0],
      ['--where', '/title=n1', 1], ['--where', '/metadata/a~1b/0/n=2', 1], ['--where', '/metadata/flag=true', 2],
      ['--where', '/nothing=1', 0], ['--limit', '2', 2],
    ];
    for (const [option, value, count] of cases) {
      it(`${option} ${value}`, async () => {
        assert.equal((await letters.exported([...of(person), option, value])).length, count);
      });
    }

    it('--user, and all together', async () => {
      assert.equal((await letters.exported([...of(person), '--user', other.id])).length, 2);
      assert.equal((await letters.exported([...of(person), '--user', person.id, '--error', '*days ago*',
                                            '--where', '/title=n0'])).length, 1);
    });
  });

  describe('wrong usage is told, and changes nothing:', () => {
    const wrong = [
      [[], /dlq wants list, show/], [['nonsense'], /nonsense is no command/], [['show'], /show wants the id/],
      [['show', 'x'], /no id/], [['list', 'x'], /x is one argument too many/], [['export', 'a', 'b'], /b is one/],
      [['list', '--id', 'x'], /--id: x is no id/], [['replay', '--id', `${randomUUID()},`], /--id:  is no id/],
      [['list', '--user', 'bob'], /--user wants a UUID, which bob is not/],
      [['replay', '--since', '1h', '--until', '2h'], /--since 1h is not before --until 2h/],
      [['drop', '--queue', 'inference', '--queue', 'persistence', '--yes'], /--queue is given twice/],
      [['export', '/nowhere/letters.jsonl'], /\/nowhere\/letters\.jsonl: No such file/],
      [['import', '/nowhere/letters.jsonl'], /\/nowhere\/letters\.jsonl: No such file/],
      [['replay'], /--all/], [['drop', '--yes'], /--all/], [['replay', '--limit', '1'], /--all/],
      [['replay', '--queue', 'nowhere'], /no queue nowhere/], [['list', '--since', 'tomorrow'], /--since/],
      [['list', '--since', '2026-02-30'], /--since/], [['list', '--where', 'title=x'], /pointer/],
      [['list', '--where', '/title'], /JSONPOINTER=VALUE/], [['list', '--limit', '0'], /--limit/],
      [['replay', '--all', '--rate', '0'], /--rate/], [['replay', '--all', '--canary', '1,,2'], /--canary/],
      [['replay', '--all', '--canary', '1', '--no-wait'], /--no-wait/], [['replay', '--all', '--timeout', 'x'], /--timeout/],
      [['replay', '--all', '--to', 'no.such'], /no operation no\.such/],
      [['replay', '--all', '--edit', '/nowhere/patch.json'], /--edit: unable to open \/nowhere\/patch\.json: No such file/],
      [['list', '--rate', '1'], /--rate/], [['drop', '--all'], /--yes/],
    ];
    for (const [args, pattern] of wrong) {
      it(args.join(' ') || '(nothing)', async () => {
        const { code, stderr, stdout } = await letters.tool(args);
        assert.equal(code, 64, stdout);
        assert.match(stderr, pattern);
        assert.ok(stderr.trimEnd().split('\n').length <= 2, stderr);
      });
    }

    it('a patch that is no object', async () => {
      const file = path.join(house.folder, 'list.json');
      fs.writeFileSync(file, '[1]');
      const { code, stderr } = await letters.tool(['replay', '--all', '--edit', file]);
      assert.equal(code, 64);
      assert.match(stderr, /a JSON object/);
    });

    it('no database', async () => {
      const { code, stderr } = await letters.tool(['replay', '--all'], { env: { DATABASE_ADMIN_URL: '' } });
      assert.equal(code, 78);
      assert.match(stderr, /DATABASE_ADMIN_URL is not set/);
    });
  });

  describe('letters that are not our workers\'', () => {
    it('of the broker are known, filtered and replayed', async () => {
      const person = somebody();
      const other = await House.open('dlqbroker', { database: true });
      try {
        assert.equal((await other.run('chatfleet', ['topology', 'apply'])).code, 0);
        const theirs = new Letters(other, await other.caller());
        const messageId = person.envelope().messageId;
        await theirs.caller.send('conversation.create', { title: 'Crashes' }, person.envelope({ messageId }));
        for (let i = 0; i <= 20; i++) { // as a worker would that dies of it
          const m = await until('it is delivered', () => theirs.caller.channel.get('persistence'));
          theirs.caller.channel.nack(m, false, true);
        }
        await theirs.waits('persistence', 1);
        const late = person.envelope({ expiration: '1' });
        await theirs.caller.send('conversation.create', { title: 'Late' }, late);
        await theirs.waits('persistence', 2);

        const [expired, write] = [await theirs.exported(['--error', 'expired']),
                                  await theirs.exported(['--error', 'delivery_limit'])];
        assert.deepEqual([expired.length, expired[0].origin, expired[0].error], [1, 'broker', 'expired']);
        assert.deepEqual([write.length, write[0].origin, write[0].error], [1, 'broker', 'delivery_limit']);
        assert.match(write[0].id, UUID);
        assert.deepEqual((await theirs.exported(['--error', 'delivery_limit'])).map((l) => l.id), [write[0].id]);
        assert.match((await theirs.tool(['show', write[0].id])).stdout, /hop +delivery_limit from persistence/);

        await other.persistence();
        const { code, json, stdout } = await theirs.tool(['replay', '--all', '--json']);
        assert.equal(code, 0, stdout);
        assert.deepEqual([json.succeeded, json.replayed], [2, 2]);
        assert.deepEqual((await theirs.conversations(person)).map((c) => c.id).sort(), [messageId, late.messageId].sort());
        await theirs.waits('persistence', 0);
      } finally {
        await other.close();
      }
    });

    it('of others go through export, drop and import as they are', async () => {
      const person = somebody();
      const queue = 'persistence.commit'; // where nothing else is
      await put(person.tenant, { messageId: 'order-1' }, queue);
      const [before] = await letters.seen(queue, 1);
      const file = path.join(house.folder, 'odd.jsonl');
      assert.equal((await letters.tool(['export', ...of(person), file])).code, 0);
      const line = JSON.parse(fs.readFileSync(file, 'utf8'));
      assert.deepEqual([line.origin, line.operation, line.body], ['foreign', 'order/placed', { base64: BYTES.toString('base64') }]);
      assert.equal((await letters.tool(['show', line.id])).code, 0);
      assert.deepEqual((await letters.tool(['drop', ...of(person), '--yes', '--json'])).json,
                       { matched: 1, dropped: 1, uncertain: 0, other_tools: 0 });
      assert.deepEqual(await letters.exported(of(person)), []);
      const { code, json, stderr } = await letters.tool(['import', file, '--json']);
      assert.deepEqual([code, json], [0, { imported: 1, already_replayed: 0, already_there: 0, refused: 0, other_tools: 0 }], stderr);
      const [properties, body] = JSON.parse((await letters.seen(queue, 1))[0]);
      assert.equal(properties.headers['x-dead-letter-id'], line.id);
      delete properties.headers['x-dead-letter-id'];
      assert.deepEqual([properties, body], JSON.parse(before));
      assert.equal((await letters.tool(['drop', ...of(person), '--yes'])).code, 0);
    });

    it('of others are replayed, and fail again with their cause', async () => {
      const person = somebody();
      await put(person.tenant, { messageId: 'order-2' });
      const { code, json } = await letters.replay(person);
      assert.deepEqual([code, json.failed], [1, 1], JSON.stringify(json));
      const [letter] = await letters.exported(of(person));
      assert.match(letter.error, /no operation order\/placed/);
      assert.equal(letter.body.base64, BYTES.toString('base64'));
    });

    it('that cannot be told apart are not taken for each other', async () => {
      const person = somebody();
      await put(person.tenant);
      await put(person.tenant);
      const { code, json } = await letters.replay(person);
      assert.equal(code, 2);
      assert.deepEqual([json.failed, json.uncertain, json.already], [1, 1, 0], JSON.stringify(json));
      assert.equal((await letters.exported(of(person))).filter((l) => l.origin === 'foreign').length, 1);
    });

    it('with the same message_id, but another body, are two', async () => {
      const person = somebody();
      const messageId = 'not-unique';
      for (const body of ['one', 'two']) {
        await new Promise((resolve) => {
          caller.channel.publish('', 'persistence.dlq', Buffer.from(body), { ...odd(person.tenant), messageId }, resolve);
        });
      }
      const { json } = await letters.replay(person);
      assert.deepEqual([json.failed, json.uncertain, json.already], [2, 0, 0], JSON.stringify(json));
    });
  });

  describe('files', () => {
    it('export, drop, import and replay make what was meant', async () => {
      const person = somebody();
      const ids = await letters.refused(person, 7);
      const file = path.join(house.folder, 'seven.jsonl');
      assert.equal((await letters.tool(['export', ...of(person), file])).code, 0);
      const exported = await letters.exported(of(person));
      const dropped = await letters.tool(['drop', ...of(person), '--yes']);
      assert.equal(dropped.code, 0, dropped.stderr);
      assert.match(dropped.stdout, /dropped 7/);
      assert.deepEqual((await letters.ledgerOf(person)).map((r) => r.state), Array(7).fill('dropped'));
      assert.deepEqual((await letters.replay(person)).json.replayed, 0);
      assert.equal((await letters.tool(['import', file])).code, 0);
      assert.deepEqual(await letters.exported(of(person)), exported);
      const { code, json } = await letters.replay(person);
      assert.deepEqual([code, json.succeeded], [0, 7]);
      assert.deepEqual((await letters.conversations(person)).map((c) => c.id), [...ids].sort());
      const late = await letters.tool(['import', file, '--json']);
      assert.deepEqual(late.json, { imported: 0, already_replayed: 7, already_there: 0, refused: 0, other_tools: 0 });
    });

    it('that are there are not imported, once dropped they are, and no line twice', async () => {
      const person = somebody();
      await letters.refused(person, 3);
      const before = await letters.exported(of(person));
      const [file, doubled] = ['there.jsonl', 'doubled.jsonl'].map((name) => path.join(house.folder, name));
      await letters.tool(['export', ...of(person), file]);
      fs.writeFileSync(doubled, fs.readFileSync(file, 'utf8').repeat(2));
      const counts = async (...args) => {
        const { code, json, stderr } = await letters.tool(['import', ...args, '--json']);
        assert.equal(code, 0, stderr);
        return [json.imported, json.already_there];
      };
      assert.deepEqual(await counts(doubled), [0, 6]);
      assert.deepEqual(await letters.exported(of(person)), before);
      assert.equal((await letters.tool(['drop', '--id', before[1].id, '--yes'])).code, 0);
      assert.deepEqual(await counts(doubled), [1, 5]);
      assert.deepEqual(await letters.exported(of(person)), [before[0], before[2], before[1]]);
      assert.match((await letters.tool(['import', file])).stdout, /imported 0, .* and 3 that are there/);
      assert.equal((await letters.replay(person)).json.succeeded, 3);
    });

    it('that look the same are as many afterwards as the file has', async () => {
      const person = somebody();
      const file = path.join(house.folder, 'same.jsonl');
      for (let i = 0; i < 2; i++) await put(person.tenant, { type: 'order/same' }); // the ledger has the others
      await letters.has(person, 2);
      await letters.tool(['export', ...of(person), file]);
      await letters.tool(['drop', ...of(person), '--limit', '1', '--yes']);
      const { json } = await letters.tool(['import', file, '--json']);
      assert.deepEqual([json.imported, json.already_there], [1, 1]);
      await letters.has(person, 2);
    });

    it('come through a pipe, too', async () => {
      const person = somebody();
      await letters.refused(person, 1);
      const file = path.join(house.folder, 'piped.jsonl'), pipe = path.join(house.folder, 'pipe');
      await letters.tool(['export', ...of(person), file]);
      await letters.tool(['drop', ...of(person), '--yes']);
      execFileSync('mkfifo', [pipe]);
      const imported = letters.tool(['import', pipe, '--json']);
      await fs.promises.writeFile(pipe, fs.readFileSync(file));
      assert.equal((await imported).json.imported, 1);
      await letters.has(person, 1);
    });

    it('that somebody else holds are imported again, and replayed once', async () => {
      const person = somebody();
      const [messageId] = await letters.refused(person, 1);
      const file = path.join(house.folder, 'twice.jsonl');
      await letters.tool(['export', ...of(person), file]);
      assert.equal(fs.statSync(file).mode & 0o777, 0o600);
      const channel = await caller.connection.createChannel();
      const taken = [];
      await channel.consume('persistence.dlq', (m) => { taken.push(m); });
      await until('all are taken', () => taken.some((m) => m.properties.messageId === messageId));
      assert.equal((await letters.tool(['import', file])).code, 0);
      await channel.close();
      await letters.has(person, 2);
      const { code, json, stdout } = await letters.replay(person);
      assert.deepEqual([code, json.succeeded, json.already], [0, 1, 1], stdout);
      assert.deepEqual(await letters.exported(of(person)), []);
      assert.deepEqual((await letters.conversations(person)).map((c) => c.id), [messageId]);
    });

    it('of a later failure under an id that was replayed are not taken for the earlier one', async () => {
      const person = somebody();
      await letters.refused(person, 1);
      const file = path.join(house.folder, 'later.jsonl');
      await letters.tool(['export', ...of(person), file]);
      assert.equal((await letters.replay(person)).json.succeeded, 1);
      const line = JSON.parse(fs.readFileSync(file, 'utf8'));
      line.headers.find(([name]) => name === 'x-failed-at')[2] = new Date(Date.now() + 60000).toISOString();
      fs.writeFileSync(file, `${JSON.stringify(line)}\n`);
      assert.equal((await letters.tool(['import', file, '--json'])).json.imported, 1);
      const left = await letters.replay(person);
      assert.deepEqual([left.code, left.json.uncertain], [2, 1], left.stdout);
      assert.match(left.json.notes[0].detail, /failed again after it was replayed/);
      await letters.has(person, 1);
      const { code, json } = await letters.replay(person, '--resume');
      assert.deepEqual([code, json.succeeded], [0, 1]);
      assert.equal((await letters.conversations(person)).length, 1);
    });

    it('with a wrong line import nothing, and name it', async () => {
      const person = somebody();
      await letters.refused(person, 2);
      const [one, two] = await letters.exported(of(person));
      const file = path.join(house.folder, 'wrong.jsonl');
      const wrong = {
        'not json': '{"id"', 'no object': '[]', 'another id': { ...two, id: randomUUID() }, 'no queue': { ...two, queue: 'x' },
        'a header\'s type': { ...two, headers: [['h', 'Q', 1]] }, 'a header\'s value': { ...two, headers: [['h', 'l', 'x']] },
        'no base64': { ...two, body: { base64: '*' } }, 'no body': { ...two, body: undefined },
        'a property': { ...two, properties: { ...two.properties, priority: 'high' } },
      };
      for (const [what, line] of Object.entries(wrong)) {
        fs.writeFileSync(file, `${JSON.stringify(one)}\n${typeof line === 'string' ? line : JSON.stringify(line)}\n`);
        const { code, stderr } = await letters.tool(['import', file]);
        assert.equal(code, 64, what);
        assert.match(stderr, /line 2: .+; nothing was imported/, what);
      }
      const folder = await letters.tool(['import', house.folder]); // it can be opened, but not read
      assert.equal(folder.code, 64);
      assert.match(folder.stderr, /Is a directory/);
      assert.equal((await letters.exported(of(person))).length, 2);
    });

    it('drop asks on a terminal, and takes nothing but yes', async () => {
      const person = somebody();
      await letters.refused(person, 2);
      for (const [answer, code, left] of [['no', 1, 2], ['', 1, 2], ['yes', 0, 0]]) {
        const said = await letters.onTerminal(['drop', ...of(person)], /Drop these 2 letters for good\? \(yes\)/, answer);
        assert.equal(said.code, code, said.output);
        assert.match(said.output, left ? /nothing was dropped/ : /dropped 2/);
        await letters.has(person, left);
      }
    });

    it('drop --dry-run drops nothing', async () => {
      const person = somebody();
      await letters.refused(person, 2);
      const { code, json } = await letters.tool(['drop', ...of(person), '--dry-run', '--json']);
      assert.deepEqual([code, json], [0, { matched: 2, dropped: 0, uncertain: 0, other_tools: 0 }]);
      assert.equal((await letters.exported(of(person))).length, 2);
    });
  });
});
