// chatfleet dlq replay against a real broker and database: nothing lost, nothing twice.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { Letters, of, somebody } from './lib/letters.mjs';
import { closeConnection, connections } from './lib/management.mjs';
import { until } from './lib/wait.mjs';

describe('replays of dead letters', () => {
  let house, caller, letters;

  before(async () => {
    house = await House.open('dlqreplay', { database: true });
    await house.persistence();
    caller = await house.caller();
    letters = new Letters(house, caller);
  });
  after(() => house.close());

  describe('replay', () => {
    it('does what was not done, once, and keeps that in the ledger', async () => {
      const person = somebody();
      const ids = await letters.refused(person, 5);
      const { code, json, stderr } = await letters.replay(person);
      assert.equal(code, 0, stderr);
      assert.deepEqual([json.replayed, json.succeeded, json.failed, json.uncertain, json.open], [5, 5, 0, 0, 0]);
      assert.deepEqual((await letters.conversations(person)).map((c) => c.id), [...ids].sort());
      assert.deepEqual(await letters.exported(of(person)), []);
      const rows = await letters.ledgerOf(person);
      assert.deepEqual(rows.map((r) => r.state), Array(5).fill('replayed'));
      assert.deepEqual(rows.map((r) => r.message_id).sort(), [...ids].sort());
      for (const row of rows) {
        assert.match(row.claimed_by, /^\S+@\S+:\d+$/);
        assert.equal(row.run, json.run);
        assert.ok(row.done_at >= row.claimed_at);
      }
      const again = await letters.replay(person);
      assert.deepEqual([again.code, again.json.replayed], [0, 0]);
    });

    it('--dry-run does nothing', async () => {
      const person = somebody();
      await letters.refused(person, 2);
      const { code, stdout } = await letters.replay(person, '--dry-run');
      assert.equal(code, 0);
      const lines = stdout.trim().split('\n').map((line) => JSON.parse(line));
      assert.deepEqual(lines.slice(0, 2).map(({ would, target }) => [would, target]),
                       [['replay', 'persistence'], ['replay', 'persistence']]);
      assert.equal(lines[2].would_replay, 2);
      assert.deepEqual(await letters.conversations(person), []);
      assert.deepEqual(await letters.ledgerOf(person), []);
      assert.equal((await letters.exported(of(person))).length, 2);
    });

    it('of what fails again ends with a new letter that can be replayed again', async () => {
      const person = somebody();
      const [messageId] = await letters.refused(person, 1, () => ({ title: '' }));
      const [first] = await letters.exported(of(person));
      const { code, json } = await letters.replay(person);
      assert.equal(code, 1);
      assert.deepEqual([json.failed, json.notes[0].id, json.notes[0].status], [1, first.id, 400]);
      const [second, ...none] = await letters.exported(of(person));
      assert.equal(none.length, 0);
      assert.notEqual(second.id, first.id);
      const header = (letter, name) => letter.headers.find(([n]) => n === name)?.[2];
      assert.equal(header(second, 'x-replay-of'), first.id);
      assert.equal(header(second, 'x-first-failed-at'), header(first, 'x-first-failed-at'));
      assert.equal(second.properties.message_id, messageId);

      const patch = path.join(house.folder, 'patch.json');
      fs.writeFileSync(patch, JSON.stringify({ title: 'Mended', metadata: { a: { b: null, c: 1 } } }));
      const dry = await letters.replay(person, '--edit', patch, '--dry-run');
      assert.deepEqual(JSON.parse(dry.stdout.split('\n')[0]).body, { title: 'Mended', metadata: { a: { c: 1 } } });
      const mended = await letters.replay(person, '--edit', patch);
      assert.deepEqual([mended.code, mended.json.succeeded], [0, 1]);
      assert.deepEqual(await letters.conversations(person), [{ id: messageId, title: 'Mended' }]);
      const rows = await letters.ledgerOf(person);
      assert.deepEqual(rows.map((r) => [r.dead_letter_id, r.state, r.edited]),
                       [[first.id, 'replayed', false], [second.id, 'replayed', true]]);
    });

    it('--no-wait does not wait for outcomes', async () => {
      const person = somebody();
      await letters.refused(person, 2);
      const { code, json } = await letters.replay(person, '--no-wait');
      assert.deepEqual([code, json.sent], [0, 2]);
      await until('both are done', async () => (await letters.conversations(person)).length === 2);
    });

    it('--to gives it to another operation', async () => {
      const person = somebody();
      const { messageId } = person.envelope();
      await caller.send('conversation.creat', { title: 'Misspelt' },
                        { ...person.envelope({ messageId, replyTo: null }), exchange: '', key: 'persistence' });
      await letters.has(person, 1);
      const { code, json, stderr } = await letters.replay(person, '--to', 'conversation.create');
      assert.equal(code, 0, stderr);
      assert.equal(json.succeeded, 1);
      assert.deepEqual(await letters.conversations(person), [{ id: messageId, title: 'Misspelt' }]);
      assert.equal((await letters.ledgerOf(person))[0].target, 'conversation.create');
    });

    it('--to what no queue takes leaves the letter, and the ledger without it', async () => {
      const person = somebody();
      await letters.refused(person, 1);
      const { code, json } = await letters.replay(person, '--to', 'system.echo'); // no context-builder was here
      assert.equal(code, 1);
      assert.equal(json.refused, 1);
      assert.match(json.notes[0].detail, /no queue takes system\.echo/);
      assert.deepEqual(await letters.ledgerOf(person), []);
      const again = await letters.replay(person);
      assert.deepEqual([again.code, again.json.succeeded], [0, 1]);
    });

    it('--limit and --rate', async () => {
      const person = somebody();
      await letters.refused(person, 8);
      const { code, json } = await letters.replay(person, '--limit', '6', '--rate', '10/s');
      assert.deepEqual([code, json.succeeded], [0, 6]);
      assert.ok(json.seconds >= 0.5, `${json.seconds} s`); // it cannot be faster
      assert.equal((await letters.exported(of(person))).length, 2);
    });

    it('--canary stops at the first batch that does not succeed', async () => {
      const person = somebody();
      await letters.refused(person, 10, (i) => ({ title: i === 2 ? '' : `c${i}` }));
      const { code, json } = await letters.replay(person, '--canary', '1,3,100');
      assert.equal(code, 1);
      assert.match(json.stopped, /canary/);
      assert.ok(json.replayed <= 4 && json.failed === 1, JSON.stringify(json));
      assert.equal((await letters.conversations(person)).length, json.succeeded);
      const left = await letters.exported(of(person));
      assert.equal(left.length, 10 - json.succeeded);
    });

    it('--canary goes on when all is well', async () => {
      const person = somebody();
      await letters.refused(person, 20);
      const { code, json } = await letters.replay(person, '--canary', '1,5');
      assert.deepEqual([code, json.succeeded, json.stopped], [0, 20, null]);
    });

    it('passes over more than a window of others', async () => {
      const [person, other] = [somebody(), somebody()];
      await letters.refused(other, 450);
      await letters.refused(person, 5);
      const order = (await letters.exported(of(other))).map(({ id }) => id);
      const { code, json } = await letters.replay(person);
      assert.deepEqual([code, json.succeeded], [0, 5]);
      assert.deepEqual((await letters.exported(of(other))).map(({ id }) => id), order);
      const all = await letters.replay(other);
      assert.deepEqual([all.code, all.json.succeeded], [0, 450]);
    });

    it('by two at once replays each once', async () => {
      const person = somebody();
      await letters.refused(person, 200);
      const runs = await Promise.all([letters.replay(person), letters.replay(person)]);
      const sum = (name) => runs.reduce((n, { json }) => n + json[name], 0);
      assert.deepEqual([sum('succeeded'), sum('failed'), sum('uncertain')], [200, 0, 0],
                       runs.map((r) => r.stdout).join());
      assert.equal((await letters.conversations(person)).length, 200);
      const rows = await letters.ledgerOf(person);
      assert.equal(rows.filter((r) => r.state === 'replayed').length, 200);
      assert.deepEqual(await letters.exported(of(person)), []);
    });

    it('finishes what is under way when it is interrupted', async () => {
      const person = somebody();
      await letters.refused(person, 30);
      const tool = house.start('chatfleet', { ...letters.env(), STATE_FILE: undefined },
                               [`${process.env.CHATFLEET_BIN}/chatfleet`, 'dlq', 'replay', ...of(person), '--rate', '5/s']);
      await until('some are replayed', async () => (await letters.conversations(person)).length >= 2);
      tool.signal('SIGTERM');
      assert.equal((await tool.end()).code, 1, tool.stderr); // not all were taken
      tool.killed = true; // it has no state file to look at
      const done = (await letters.conversations(person)).length;
      assert.ok(done < 30);
      const rows = await letters.ledgerOf(person);
      assert.deepEqual([rows.length, rows.filter((r) => r.state === 'replayed').length], [done, done]);
      await letters.has(person, 30 - done);
    });
  });

  describe('a replay that is killed', () => {
    // What the ledger and the database have afterwards, and what the next ones do about it.
    for (const [point, { uncertain, made }] of Object.entries({
      'replay.claimed': { uncertain: true, made: false },
      'replay.published': { uncertain: true },
      'replay.confirmed': { uncertain: true, made: true },
      'replay.recorded': { uncertain: false, made: true },
    })) {
      it(`at ${point} loses nothing and does nothing twice`, async () => {
        const person = somebody();
        const ids = await letters.refused(person, 6);
        const killed = await letters.tool(['replay', ...of(person), '--canary', '1,1,1,1,1'],
                                          { env: { CHATFLEET_FAULT: `${point}:3` } });
        assert.equal(killed.code, 'SIGKILL');
        await letters.has(person, 4); // two were done
        if (made) await until('the third is made', async () => (await letters.conversations(person)).length === 3);
        const claimed = (await letters.ledgerOf(person)).filter((r) => r.state === 'claimed');
        assert.equal(claimed.length, uncertain ? 1 : 0);

        const listed = (await letters.tool(['list', ...of(person), '--json'])).json
          .find((q) => q.queue === 'persistence');
        assert.deepEqual([listed.count, listed.uncertain], [4, uncertain ? 1 : 0]);
        const next = await letters.replay(person);
        assert.equal(next.code, uncertain ? 2 : 0, next.stdout);
        assert.deepEqual([next.json.succeeded, next.json.uncertain, next.json.already],
                         uncertain ? [3, 1, 0] : [3, 0, 1]);
        if (uncertain) {
          assert.match(next.json.notes[0].detail, /claimed by/);
          const resumed = await letters.replay(person, '--resume');
          assert.deepEqual([resumed.code, resumed.json.succeeded], [0, 1], resumed.stdout);
        }
        assert.deepEqual((await letters.conversations(person)).map((c) => c.id), [...ids].sort());
        assert.deepEqual((await letters.ledgerOf(person)).map((r) => r.state), Array(6).fill('replayed'));
        await letters.has(person, 0);
      });
    }
  });

  describe('a session that the broker ends', () => {
    it('stops the tool, which says what is uncertain', async () => {
      const person = somebody();
      const ids = await letters.refused(person, 60);
      const tool = letters.tool(['replay', ...of(person), '--rate', '3/s', '--json']); // seconds, for the statistics
      await until('some are replayed', async () => (await letters.conversations(person)).length >= 3);
      for (const c of await connections(house.vhost, 'chatfleet command line', 1)) await closeConnection(c.name);
      const { code, json, stderr } = await tool;
      assert.ok(code === 2 || code === 69, `${code}`);
      assert.match(stderr, /the broker ended the session/);
      assert.match(json.stopped, /lost/);
      const next = await letters.replay(person, '--resume');
      assert.equal(next.code, 0, next.stdout);
      assert.deepEqual((await letters.conversations(person)).map((c) => c.id), [...ids].sort());
    });
  });
});
