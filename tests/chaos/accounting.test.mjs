// The accounting notices what it is there for: each kind of loss and doubling, put into a database by hand.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { Database } from '../integration/lib/database.mjs';
import { uuid7 } from '../integration/lib/uuid.mjs';
import { Book, countBudgets, countEvents, countTables, countWrites } from './lib/accounting.mjs';
import { Journal, judge } from './lib/journal.mjs';

const PERSON = '11111111-1111-4111-8111-111111111111';

describe('the accounting', () => {
  let database, journal, conversation, send;

  before(async () => {
    database = await Database.open('accounting', { schema: true });
    await database.rows('INSERT INTO auth.users VALUES ($1)', [PERSON]);
  });
  after(() => database.close());

  const run = (...statements) => Promise.all(statements.map((s) => database.rows(s)));

  // A conversation with one answered question, written down as it is.
  beforeEach(async () => {
    await run('DELETE FROM chat.usage_tracking');
    await run('DELETE FROM chat.conversations');
    await run('DELETE FROM chat.idempotency_keys');
    journal = new Journal();
    conversation = journal.write('conversation.create', { key: 'first', person: PERSON });
    conversation.ids = { conversation: uuid7() };
    const id = conversation.ids.conversation;
    send = journal.write('message.send', { key: 'second', conversation: id, person: PERSON });
    Object.assign(send, { ids: { turn: uuid7(), question: uuid7(), answer: uuid7() }, answer: 'Yes.' });
    conversation.outcome = send.outcome = 'ok';
    await database.rows(
      'INSERT INTO chat.conversations (id, tenant_id, user_id, title, next_seq) VALUES ($1, $2, $3, $4, 3)',
      [id, 'default', PERSON, conversation.text]);
    await database.rows('INSERT INTO chat.idempotency_keys VALUES ($1, $2, $3, $4, $5, $5)',
                        ['default', PERSON, 'first', 'conversation.create', id]);
    await turn(send.ids, { text: send.text, key: 'second', seq: 1 });
  });

  async function turn({ turn: id, question, answer }, { text, key, seq, state = 'completed' }) {
    const owner = ['default', PERSON, conversation.ids.conversation];
    await database.rows(
      `INSERT INTO chat.turns (tenant_id, user_id, conversation_id, id, kind, state, question_id, answer_id,
         idempotency_key) VALUES ($1, $2, $3, $4, 'send', $5, $6, $7, $8)`,
      [...owner, id, state, question, answer, key]);
    const message = `INSERT INTO chat.messages (tenant_id, user_id, conversation_id, id, seq, sender_type,
                       content, parent_message_id, turn_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`;
    await database.rows(message, [...owner, question, seq, 'user', text, null, id]);
    if (state !== 'completed') return;
    await database.rows(message, [...owner, answer, seq + 1, 'assistant', 'Yes.', question, id]);
    await database.rows(
      `INSERT INTO chat.usage_tracking (tenant_id, user_id, conversation_id, id, message_id, model_used)
       VALUES ($1, $2, $3, $4, $5, $6)`, [...owner, id, answer, 'any']);
  }

  // The lines that do not add up.
  async function wrong(letters = []) {
    const book = new Book();
    await countWrites(book, journal, database);
    await countTables(book, database, letters);
    await countBudgets(book, database);
    return book.lines.filter(({ ok }) => !ok).map(({ text, count }) => `${count} ${text}`);
  }

  const MISSING = '1 accepted writes that are missing', TWICE = '1 writes that are there twice';

  it('closes when all is as it was told', async () => assert.deepEqual(await wrong(), []));

  it('misses a conversation', async () => {
    journal.write('conversation.create', { outcome: 'ok', ids: { conversation: uuid7() } });
    assert.deepEqual(await wrong(), [MISSING]);
  });

  it('misses a title, a deletion, a turn', async () => {
    const about = { conversation: conversation.ids.conversation, outcome: 'ok' };
    const update = journal.write('conversation.update', { ...about });
    assert.deepEqual(await wrong(), [MISSING]);
    update.outcome = 'open'; // then either is right
    assert.deepEqual(await wrong(), []);
    const deletion = journal.write('conversation.delete', { ...about });
    assert.deepEqual(await wrong(), [MISSING]);
    deletion.outcome = 'open';
    const lost = journal.write('message.send', { outcome: 'accepted', ids: { turn: uuid7() } });
    assert.deepEqual(await wrong(), [MISSING]);
    lost.outcome = 'open';
    assert.deepEqual(await wrong(), []);
  });

  it('misses an answer, and sees another one', async () => {
    await run(`UPDATE chat.messages SET content = 'No.' WHERE sender_type = 'assistant'`);
    assert.deepEqual(await wrong(), [MISSING]);
    await run(`DELETE FROM chat.messages WHERE sender_type = 'assistant'`);
    assert.deepEqual(await wrong(), [MISSING, '1 conversations with a gap or a double in seq',
                                     '1 completed turns without exactly one answer and one row of usage']);
  });

  it('sees a write twice', async () => {
    await turn({ turn: uuid7(), question: uuid7(), answer: uuid7() }, { text: send.text, key: 'second', seq: 3 });
    await run('UPDATE chat.conversations SET next_seq = 5');
    assert.deepEqual(await wrong(), [TWICE]);
    await run(`INSERT INTO chat.conversations (id, tenant_id, user_id, title)
               VALUES (gen_random_uuid(), 'default', '${PERSON}', '${conversation.text}')`);
    assert.match((await wrong())[0], /^[23] writes that are there twice$/);
  });

  it('does not mind a failed turn before the one that was answered', async () => {
    const ids = { turn: uuid7(), question: uuid7(), answer: uuid7() };
    await turn(ids, { text: send.text, key: 'second', seq: 3, state: 'failed' });
    await run('UPDATE chat.conversations SET next_seq = 4');
    assert.deepEqual(await wrong(), []);
  });

  it('sees what was refused, and what nobody asked for', async () => {
    send.outcome = 'refused';
    assert.deepEqual(await wrong(), ['1 writes that were refused and are there all the same']);
    journal.writes.pop();
    assert.deepEqual(await wrong(), ['1 rows that nobody asked for']);
  });

  it('sees a gap, usage twice, two chosen answers', async () => {
    await run('UPDATE chat.messages SET seq = 7 WHERE seq = 2');
    assert.deepEqual(await wrong(), ['1 conversations with a gap or a double in seq']);
    await run('UPDATE chat.messages SET seq = 2 WHERE seq = 7');
    await run(`INSERT INTO chat.usage_tracking (id, tenant_id, user_id, conversation_id, message_id, model_used)
               SELECT gen_random_uuid(), tenant_id, user_id, conversation_id, message_id, model_used
               FROM chat.usage_tracking`);
    assert.deepEqual(await wrong(), ['1 answers or usage of turns that are not completed']);
    await run('DELETE FROM chat.usage_tracking');
    assert.deepEqual(await wrong(), ['1 completed turns without exactly one answer and one row of usage']);
    await run('UPDATE chat.messages SET chosen = false');
    assert.equal((await wrong()).at(-1), '1 answered questions without exactly one chosen answer');
  });

  it('sees a turn that never ends, unless there is its dead letter', async () => {
    const ids = { turn: uuid7(), question: uuid7(), answer: uuid7() };
    const write = journal.write('message.send', { outcome: 'open', open: 1 });
    await turn(ids, { text: write.text, key: 'third', seq: 3, state: 'accepted' });
    await run('UPDATE chat.conversations SET next_seq = 4');
    assert.deepEqual(await wrong(), ['1 turns that never end, and of which there is no dead letter']);
    assert.deepEqual(await wrong([{ turn: ids.turn }]), []);
  });

  it('sees a cost that no budget counts, and a reservation that nobody releases', async () => {
    const counts = '1 tenants whose budget does not count what their turns cost';
    await run('UPDATE chat.usage_tracking SET cost_credits = 0.5, total_tokens = 7');
    await database.rows("INSERT INTO chat.tenants (tenant_id) VALUES ('default')");
    await database.rows(`INSERT INTO chat.tenant_spending (tenant_id, since, day, day_cost, day_tokens, month, month_cost,
      month_tokens) VALUES ('default', now() - interval '1 hour', now(), 0, 0, now(), 0.5, 7)`);
    try {
      assert.deepEqual(await wrong(), []);
      for (const [spoil, mend] of [['month_cost = 0.25', 'month_cost = 0.5'], ['month_tokens = 0', 'month_tokens = 7'],
                                   ['reserved_cost = 0.125', 'reserved_cost = 0']]) {
        await run(`UPDATE chat.tenant_spending SET ${spoil}`);
        assert.deepEqual(await wrong(), [counts], spoil);
        await run(`UPDATE chat.tenant_spending SET ${mend}`);
      }
      await run('UPDATE chat.turns SET reserved_cost = 0.125');
      assert.deepEqual(await wrong(), ['1 ended turns that still reserve']);
      await run('UPDATE chat.tenant_spending SET reserved_cost = 0.125'); // both agree, and are wrong
      assert.deepEqual(await wrong(), [counts, '1 ended turns that still reserve']);
    } finally {
      await database.rows('DELETE FROM chat.tenant_spending');
      await database.rows('DELETE FROM chat.tenants');
    }
  });

  it('sees events that are missing, of nothing, or told under two ids', async () => {
    const right = [
      { type: 'chat.thread.created', of: conversation.ids.conversation, id: '1' },
      { type: 'chat.message.created', of: send.ids.answer, id: '2' },
      { type: 'chat.message.created', of: send.ids.answer, id: '2' },
    ];
    const counts = async (events) => {
      const book = new Book();
      await countEvents(book, database, events);
      return book.lines.map(({ count }) => count);
    };
    assert.deepEqual(await counts(right), [0, 0]);
    assert.deepEqual(await counts(right.slice(1)), [1, 0]);
    assert.deepEqual(await counts([...right, { ...right[0], of: uuid7() }]), [0, 1]);
    assert.deepEqual(await counts([...right, { ...right[1], id: '3' }]), [0, 1]);
  });

  it('knows what an answer means', () => {
    const answers = [
      [200, {}, 'ok'], [202, {}, 'accepted'], [204, undefined, 'ok'],
      [400, {}, 'odd'], [500, {}, 'odd'], [501, {}, 'odd'],
      [409, { detail: 'the turn 1 is still under way' }, 'busy'], [409, { detail: 'is archived' }, 'odd'],
      [503, { detail: 'the queue is full' }, 'refused'],
      [504, { detail: 'late; the outcome is open, and told at /x' }, 'open'],
      [502, { detail: 'the model failed', user_message_id: '1' }, 'failed'],
    ];
    for (const [status, body, outcome] of answers) assert.equal(judge(status, body), outcome, `${status}`);
  });
});
