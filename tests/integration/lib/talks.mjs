// People who talk to the fleet all the time and note down what they were told, so that a fault meets turns
// under way, and what was accepted can be counted afterwards.
import assert from 'node:assert/strict';
import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { Person } from './person.mjs';
import { pause, until } from './wait.mjs';

// What may be said while something is away; the same key is then sent again, for so long.
const OPEN = [409, 503, 504];
const BROKEN = ['ECONNREFUSED', 'ECONNRESET', 'EPIPE'];
const PATIENCE_MS = 60000;

class Talk {
  constructor(shim, { broken = false, patience = PATIENCE_MS } = {}) {
    this.patience = patience;
    this.shim = shim;
    this.broken = broken; // whether connections to the shim may break, too
    this.person = new Person();
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    this.conversations = []; // {id, turns: [{question, ids}]}
    this.refused = [];       // what was said besides
    this.repeated = [];      // why something was said again
  }

  // The same request with the same key, until it has an answer.
  async #insist(path, body) {
    const key = randomUUID();
    for (const end = Date.now() + this.patience; Date.now() < end;) {
      let said;
      try {
        const answer = await this.person.http(this.shim, 'POST', path, body, {
          headers: { 'idempotency-key': key }, agent: this.agent, limit: 70000,
        });
        if (answer.status < 300) return answer.json;
        said = answer.text;
        if (!OPEN.includes(answer.status)) this.refused.push(said);
      } catch (error) {
        said = `${error.code ?? ''} ${error.message}`;
        if (!this.broken || !BROKEN.includes(error.code)) this.refused.push(said);
      }
      if (this.refused.length > 5) throw new Error(this.refused.join('\n'));
      this.repeated.push(said);
      await pause(50);
    }
    throw new Error(`${path} had no answer within ${this.patience} ms`);
  }

  async run(talks) {
    while (!talks.ended) {
      const { id } = await this.#insist('/conversations', { title: 'Under fire' });
      const conversation = { id, turns: [] };
      this.conversations.push(conversation);
      for (let i = 0; i < 8 && !talks.ended; i++) {
        const question = `question ${randomUUID()}`;
        const { user_message: asked, assistant_message: answered } =
          await this.#insist(`/conversations/${id}/messages`, { content: question });
        conversation.turns.push({ question, asked, answered });
        talks.turns++;
      }
    }
    this.agent.destroy();
  }
}

export class Talks {
  turns = 0; // that were answered
  ended = false;

  constructor(shim, { people = 8, ...options } = {}) {
    this.people = Array.from({ length: people }, () => new Talk(shim, options));
    this.running = Promise.all(this.people.map((talk) => talk.run(this)));
    this.running.catch(() => {});
  }

  // Waits for so many more answered turns.
  async more(count) {
    const wanted = this.turns + count;
    await Promise.race([this.running, until(`${count} more turns`, () => this.turns >= wanted, { limit: 60000 })]);
  }

  // Each has the answer to its last request then.
  async end() {
    this.ended = true;
    await this.running;
  }

  // Why something was said again, each time.
  get repeated() {
    return this.people.flatMap((talk) => talk.repeated);
  }

  get conversations() {
    return this.people.flatMap((talk) => talk.conversations);
  }

  // Nothing that was answered is missing, and nothing is there twice.
  async assertKept(database) {
    assert.deepEqual(this.people.flatMap((talk) => talk.refused), [], 'nothing else was said');
    await until('no turn is under way', async () => await database.value(
      'SELECT count(*)::int FROM chat.turns WHERE state = \'accepted\'') === 0, { limit: 60000 });
    const rows = await database.rows(
      `SELECT conversation_id, array_agg(id ORDER BY seq) AS ids, array_agg(seq::int ORDER BY seq) AS seqs,
         array_agg(content ORDER BY seq) AS contents FROM chat.messages GROUP BY 1`);
    const kept = new Map(rows.map((row) => [row.conversation_id, row]));
    for (const { id, turns } of this.conversations) {
      const { ids, seqs, contents } = kept.get(id) ?? { ids: [], seqs: [], contents: [] };
      // One after the other in a conversation, and each with one key: all is where it was said to be.
      assert.deepEqual(ids, turns.flatMap(({ asked, answered }) => [asked.id, answered.id]));
      assert.deepEqual(seqs, ids.map((_, i) => i + 1));
      assert.deepEqual(contents, turns.flatMap(({ question, answered }) => [question, answered.content]));
    }
    const value = (sql) => database.value(`SELECT count(*)::int FROM ${sql}`);
    const people = this.people.map((talk) => talk.person.id);
    assert.equal(await database.value('SELECT count(*)::int FROM chat.conversations WHERE user_id = ANY ($1)', [people]),
                 this.conversations.length);
    assert.equal(await value('chat.conversations c WHERE next_seq <> 1 + (SELECT count(*) FROM chat.messages m WHERE m.conversation_id = c.id)'), 0);
    assert.equal(await value('chat.turns WHERE state <> \'completed\''), 0);
    for (const [table, column] of [['messages', 'turn_id'], ['usage_tracking', 'id']]) {
      const answers = table === 'messages' ? 'AND x.sender_type = \'assistant\'' : '';
      assert.equal(await value(`chat.turns t WHERE 1 <> (SELECT count(*) FROM chat.${table} x
        WHERE x.${column} = t.id AND x.conversation_id = t.conversation_id ${answers})`), 0, `one of ${table} a turn`);
    }
    assert.equal(await value('chat.usage_tracking WHERE turn_id IS NULL'), await value('chat.turns'));
    // What else was asked of a model, by a worker that was killed, say.
    assert.equal(await value('chat.usage_tracking u LEFT JOIN chat.turns t ON t.id = u.turn_id WHERE u.turn_id IS NOT NULL AND t.id IS NULL'), 0);
  }
}
