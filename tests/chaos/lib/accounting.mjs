// Whether it adds up: what clients were told against PostgreSQL, the queues and the processes.
import fs from 'node:fs';
import { metricsOf, request } from '../../integration/lib/http.mjs';
import { management } from '../../integration/lib/management.mjs';
import { valueOf } from '../../integration/lib/metrics.mjs';
import { pause, until } from '../../integration/lib/wait.mjs';
import { look, take } from './doors.mjs';
import { groupBy } from './group.mjs';
import { EVENTS, WORK_QUEUES } from './world.mjs';

const SHOWN = 8; // examples of what does not add up

// Counts at the moment: {inQueues, unacked, dead, accepted, pending}.
export async function pulse(world) {
  const vhost = encodeURIComponent(world.house.vhost);
  const queues = await management('GET', `/queues/${vhost}?disable_stats=true&enable_queue_totals=true`);
  const sum = (list, field) => list.reduce((n, queue) => n + (queue[field] ?? 0), 0);
  const dead = queues.filter(({ name }) => name.endsWith('.dlq'));
  const live = queues.filter(({ name }) => !name.endsWith('.dlq') && name !== EVENTS && !name.startsWith('amq.gen') &&
    !/^chat\.(reply|control)\./.test(name));
  const pending = await Promise.all(world.of('gateway').map(async ({ process }) =>
    valueOf(await metricsOf(process.adminPort), 'rpc_calls_pending')));
  return {
    inQueues: sum(live, 'messages'), unacked: sum(live, 'messages_unacknowledged'), dead: sum(dead, 'messages'),
    accepted: await world.database.value('SELECT count(*)::int FROM chat.turns WHERE state = \'accepted\''),
    pending: pending.reduce((a, b) => a + b, 0), live,
  };
}

// Waits until nothing moves any more; gives the last pulse.
export async function settle(world, limitMs, say) {
  let now, reason;
  for (const end = Date.now() + limitMs; ;) {
    try {
      now = await pulse(world);
      const letters = now.accepted ? await readDead(world) : [];
      const stuck = now.accepted - new Set(letters.map(({ turn }) => turn)).size;
      if (now.inQueues === 0 && now.pending === 0 && stuck <= 0) return now;
      reason = `${now.inQueues} messages in queues, ${now.pending} calls pending, ${now.accepted} turns accepted`;
    } catch (error) {
      reason = error.message;
    }
    if (Date.now() > end) return now;
    say(`settling: ${reason}`);
    await pause(2000);
  }
}

// {id, queue, operation, cause, turn} of each dead letter; the cause is undefined when it bears none.
async function readDead(world) {
  const letters = [];
  for (const queue of WORK_QUEUES) {
    for (const { properties, content } of await look(world.house.vhost, `${queue}.dlq`)) {
      const { headers, type, messageId } = properties;
      const death = headers['x-death']?.[0]?.reason;
      const cause = headers['x-error'] ? `${headers['x-error-kind']}: ${headers['x-error']}`
        : death && `by the broker: ${death}`;
      let turn = messageId;
      try {
        turn = JSON.parse(content.toString()).turn?.id ?? messageId;
      } catch {
        // No turn of ours.
      }
      letters.push({ id: messageId, queue, operation: type, cause, turn, death, deaths: headers['x-death'] });
    }
  }
  return letters;
}

export class Book {
  lines = [];

  // `wrong` is what does not add up: a number, or the list of it.
  line(text, wrong, about = '') {
    const list = Array.isArray(wrong) ? wrong : [];
    const count = Array.isArray(wrong) ? wrong.length : wrong;
    this.lines.push({ text, count, about, examples: list.slice(0, SHOWN).map(String), ok: count === 0 });
  }

  get closes() {
    return this.lines.every(({ ok }) => ok);
  }
}

const byKey = (rows, key) => new Map(rows.map((row) => [row[key], row]));

// What clients were told, against the tables: four lists of what is wrong.
class Comparison {
  missing = [];
  doubled = [];
  undone = []; // refused, and there all the same
  unasked = [];

  constructor(journal) {
    this.writes = journal.writes;
  }

  of(...ops) {
    return this.writes.filter(({ op }) => ops.includes(op));
  }

  // Each title of a new conversation is in no other request.
  conversations(rows, keys) {
    const byId = byKey(rows, 'id'), byTitle = groupBy(rows, ({ title }) => title);
    const created = this.of('conversation.create');
    for (const { text, outcome, open, key, ids: { conversation } } of created) {
      const found = byTitle.get(text) ?? [];
      const ids = found.map(({ id }) => id);
      if (outcome === 'ok' && !byId.has(conversation)) this.missing.push(`conversation ${conversation} "${text}"`);
      if (found.length > 1 || (outcome === 'ok' && ids.some((id) => id !== conversation))) {
        this.doubled.push(`conversation "${text}": told ${conversation}, there are ${ids}`);
      }
      if (key && conversation && keys.get(key)?.message_id !== conversation) this.missing.push(`the key of "${text}"`);
      if (isRefused({ outcome, open }) && found.length) this.undone.push(`conversation "${text}"`);
    }
    const known = new Set([...created, ...this.of('conversation.update')].map(({ text }) => text));
    for (const { id, title } of rows) if (!known.has(title)) this.unasked.push(`conversation ${id} "${title}"`);
    this.#titles(byId);
    this.#deletions(byId);
  }

  // An update whose outcome was open may come after a later one: its title is right, too.
  #titles(byId) {
    const wanted = new Map();
    for (const write of this.of('conversation.create', 'conversation.update')) {
      const id = write.conversation ?? write.ids.conversation;
      if (!id) continue;
      const title = wanted.get(id) ?? { may: new Set() };
      if (write.outcome === 'ok') title.told = write.text;
      if (write.outcome !== 'ok' || write.open) title.may.add(write.text);
      wanted.set(id, title);
    }
    for (const [id, { told, may }] of wanted) {
      const is = byId.get(id)?.title ?? told;
      if (is !== told && !may.has(is)) this.missing.push(`conversation ${id} is called "${is}", told "${told}"`);
    }
  }

  #deletions(byId) {
    for (const { conversation, outcome, open } of this.of('conversation.delete')) {
      const deleted = byId.get(conversation)?.status === 'deleted';
      if (outcome === 'ok' && !deleted) this.missing.push(`the deletion of conversation ${conversation}`);
      if (isRefused({ outcome, open }) && deleted) this.undone.push(`the deletion of conversation ${conversation}`);
    }
  }

  // A question's text is in no other request; an answer given anew is known by its key or its turn's id.
  turns(rows) {
    const byId = byKey(rows, 'id');
    const byQuestion = groupBy(rows.filter(({ kind }) => kind === 'send'), ({ question }) => question);
    const byIdempotency = groupBy(rows.filter(({ key }) => key), ({ key }) => key);
    for (const write of this.of('message.send', 'message.regenerate')) {
      const found = (write.op === 'message.send' ? byQuestion.get(write.text)
        : write.key ? byIdempotency.get(write.key) : [byId.get(write.id ?? write.ids.turn ?? write.failed)]) ?? [];
      this.#turn(write, found.filter(Boolean), byId);
    }
    const asked = new Set(this.of('message.send').map(({ text }) => text));
    for (const [question, list] of byQuestion) {
      if (!asked.has(question)) this.unasked.push(`turns ${list.map(({ id }) => id)} of "${question}"`);
    }
  }

  // Turns that failed do not count: who asked was told, and could ask again.
  #turn(write, found, byId) {
    const { op, text, via, outcome, attempts, failures, ids, answer } = write;
    const states = found.map(({ id, state }) => `${id} ${state}`).join(', ') || 'no turn';
    const name = `${op} ${text} (${via}, ${outcome}, ${attempts} attempts, ${failures} failed): ${states}`;
    const going = found.filter(({ state }) => state !== 'failed');
    if (going.length > 1) this.doubled.push(name);
    if (outcome === 'ok') {
      const turn = byId.get(ids.turn ?? going[0]?.id);
      const right = turn?.state === 'completed' && turn.answer === answer &&
        (ids.answer ?? turn.answer_id) === turn.answer_id && (op !== 'message.send' || turn.question === text);
      if (!right) this.missing.push(`${name}; told turn ${ids.turn}, answer "${answer}"; there is "${turn?.answer}"`);
    }
    if (['accepted', 'failed'].includes(outcome) && found.length === 0) this.missing.push(name);
    if (isRefused(write) && !failures && found.length) this.undone.push(name);
  }
}

// In all its attempts.
const isRefused = ({ outcome, open }) => outcome === 'refused' && !open;

export async function countWrites(book, journal, database) {
  const conversations = await database.rows('SELECT id, title, status FROM chat.conversations');
  const keys = await database.rows('SELECT key, message_id FROM chat.idempotency_keys');
  const turns = await database.rows(
    `SELECT t.id, t.state, t.kind, t.idempotency_key AS key, t.answer_id, q.content AS question, a.content AS answer
     FROM chat.turns t LEFT JOIN chat.messages q ON q.id = t.question_id
     LEFT JOIN chat.messages a ON a.id = t.answer_id`);
  const { writes, repeats } = journal;
  const is = new Comparison(journal);
  is.conversations(conversations, byKey(keys, 'key'));
  is.turns(turns);
  const accepted = writes.filter(({ outcome }) => outcome === 'ok' || outcome === 'accepted').length;
  const open = writes.filter(({ outcome }) => outcome === 'open').length;
  book.line('accepted writes that are missing', is.missing, `of ${accepted} accepted`);
  book.line('writes that are there twice', is.doubled,
            `of ${writes.length}, ${open} with an open outcome among them; ${repeats} requests were repeated`);
  book.line('writes that were refused and are there all the same', is.undone);
  book.line('rows that nobody asked for', is.unasked, `${conversations.length} conversations, ${turns.length} turns`);
}

// The tables by themselves.
export async function countTables(book, database, letters) {
  const value = (sql) => database.value(`SELECT count(*)::int FROM ${sql}`);
  const list = async (sql) => (await database.rows(sql)).map((row) => Object.values(row).join(' '));
  book.line('conversations with a gap or a double in seq', await list(
    `SELECT c.id, c.next_seq - 1 AS counted, count(m.seq) AS there, count(DISTINCT m.seq) AS different,
       max(m.seq) AS highest
     FROM chat.conversations c LEFT JOIN chat.messages m ON m.conversation_id = c.id GROUP BY c.id
     HAVING count(m.seq) <> c.next_seq - 1 OR count(DISTINCT m.seq) <> count(m.seq)
       OR coalesce(max(m.seq), 0) <> count(m.seq)`),
  `${await value('chat.messages')} messages`);
  book.line('completed turns without exactly one answer and one row of usage', await list(
    `SELECT t.id FROM chat.turns t WHERE t.state = 'completed'
     AND ((SELECT count(*) FROM chat.messages m
           WHERE m.turn_id = t.id AND m.sender_type = 'assistant' AND m.id = t.answer_id) <> 1
       OR (SELECT count(*) FROM chat.usage_tracking u WHERE u.id = t.id AND u.message_id = t.answer_id) <> 1)`),
  `${await value('chat.turns WHERE state = \'completed\'')} completed`);
  book.line('answers or usage of turns that are not completed', await list(
    `SELECT x.id FROM (SELECT turn_id AS id FROM chat.messages WHERE sender_type = 'assistant'
       AND metadata->>'ending' IS DISTINCT FROM 'broken'
       UNION ALL SELECT id FROM chat.usage_tracking WHERE turn_id IS NULL) x LEFT JOIN chat.turns t ON t.id = x.id
     WHERE t.state IS DISTINCT FROM 'completed'`));
  book.line('usage of requests for turns that are not there', await list(
    `SELECT u.id FROM chat.usage_tracking u LEFT JOIN chat.turns t ON t.id = u.turn_id
     WHERE u.turn_id IS NOT NULL AND t.id IS NULL`));
  book.line('answered questions without exactly one chosen answer', await list(
    `SELECT m.parent_message_id, count(*) FILTER (WHERE m.chosen) FROM chat.messages m WHERE m.sender_type = 'assistant'
       AND m.metadata->>'ending' IS DISTINCT FROM 'broken'
     GROUP BY 1 HAVING count(*) FILTER (WHERE m.chosen) <> 1`));
  const dead = new Set(letters.map(({ turn }) => turn));
  const accepted = await list('SELECT id FROM chat.turns WHERE state = \'accepted\'');
  book.line('turns that never end, and of which there is no dead letter', accepted.filter((id) => !dead.has(id)),
            `${accepted.length} not ended, ${await value('chat.turns WHERE state = \'failed\'')} failed`);
}

// What a tenant's budget counts, against the rows of what its turns cost.
export async function countBudgets(book, database) {
  const wrong = await database.rows(
    `SELECT s.tenant_id, s.month_cost::text AS counted, u.cost::text AS cost, s.month_tokens::text AS counted_tokens,
       u.tokens::text, s.reserved_cost::text AS reserved, t.reserved::text AS reserved_by_turns
     FROM chat.tenant_spending s,
     LATERAL (SELECT coalesce(sum(greatest(of_turn.cost, of_turn.withheld)), 0) AS cost,
         coalesce(sum(of_turn.tokens), 0) AS tokens
       FROM (SELECT sum(x.cost_credits) AS cost, sum(x.total_tokens) AS tokens,
           CASE WHEN bool_or(NOT x.cost_known) THEN max(e.withheld_cost) END AS withheld
         FROM chat.usage_tracking x JOIN chat.turns e ON e.answer_id = x.message_id AND e.state <> 'accepted'
         WHERE x.tenant_id = s.tenant_id AND x.created_at >= s.since GROUP BY e.id) of_turn) u,
     LATERAL (SELECT coalesce(sum(r.reserved_cost), 0) AS reserved FROM chat.turns r
       WHERE r.tenant_id = s.tenant_id AND r.state = 'accepted') t
     WHERE (s.month_cost, s.month_tokens, s.reserved_cost) IS DISTINCT FROM (u.cost, u.tokens, t.reserved)`);
  book.line('tenants whose budget does not count what their turns cost', wrong.map((row) => JSON.stringify(row)),
            `${await database.value('SELECT coalesce(sum(month_cost), 0)::float8 FROM chat.tenant_spending')} credits counted`);
  const ended = await database.rows(
    'SELECT id, tenant_id, state, reserved_cost::text AS cost FROM chat.turns WHERE state <> \'accepted\' AND reserved_cost IS NOT NULL');
  book.line('ended turns that still reserve', ended.map((row) => JSON.stringify(row)));
}

// Each thing that happened was told at least once, and again only under the same id.
export async function countEvents(book, database, events) {
  const told = groupBy(events, ({ type, of }) => `${type} ${of}`);
  const happened = await database.rows(
    `SELECT 'chat.message.created ' || answer_id AS name FROM chat.turns WHERE state = 'completed'
     UNION ALL SELECT 'chat.thread.created ' || id FROM chat.conversations`);
  const names = new Set(happened.map(({ name }) => name));
  const again = events.length - told.size;
  book.line('events that are missing', [...names].filter((name) => !told.has(name)),
            `${events.length} events, ${again} of them again`);
  book.line('events of nothing, or under two ids', [...told].filter(([name, list]) =>
    !names.has(name) || new Set(list.map(({ id }) => id)).size > 1).map(([name]) => name));
}

async function readEvents(world) {
  return (await take(world.house.vhost, EVENTS)).map(({ properties: { headers } }) => ({
    type: headers['cloudEvents:type'], of: headers['cloudEvents:subject'], id: headers['cloudEvents:id'],
  }));
}

const kilobytes = (pid) => Number(/^Pss:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);

// Reads all of it; {book, letters, memory}.
export async function account(world, journal, attack, settled) {
  const book = new Book();
  const letters = await readDead(world);
  await countWrites(book, journal, world.database);
  await countTables(book, world.database, letters);

  await countBudgets(book, world.database);
  await countEvents(book, world.database, await readEvents(world));

  book.line('answers that no fault explains', journal.odd, `${journal.requests} requests`);
  book.line('requests without an answer within their time', journal.hung);
  book.line('requests that were answered in two ways', journal.contradictions,
            `${journal.echoes} answers came again, the same`);
  book.line('reads that did not show what had been told before', journal.stale);

  const standing = settled?.live.filter(({ messages }) => messages > 0)
    .map(({ name, messages }) => `${name}: ${messages}`);
  book.line('messages left in work and retry queues', standing ?? ['not known: the fleet did not settle'],
            settled && `${settled.unacked} unacked`);
  book.line('dead letters without a cause',
            letters.filter(({ cause }) => !cause).map(({ queue, operation }) => `${queue} ${operation}`),
            `${letters.length} dead letters`);
  // None of them crashes a worker.
  book.line('messages that were delivered too often',
            letters.filter(({ death }) => death === 'delivery_limit')
              .map(({ id, operation, turn, deaths }) => `${operation} ${id} of turn ${turn}: ${JSON.stringify(deaths)}`));
  const dead = new Set(letters.map(({ id }) => id));
  book.line('messages of no use that disappeared',
            journal.strays.filter(({ id }) => !dead.has(id)).map(({ id, what }) => `${id}: ${what}`),
            `${journal.strays.length} sent`);
  book.line('calls that a shim still waits for', settled?.pending ?? 1);
  const unwell = [];
  for (const { name, process } of world.slots) {
    await until(`${name} is well`, async () => (await request(process.adminPort, '/health')).status === 200)
      .catch((error) => unwell.push(`${name}: ${error.message} ${error.cause ?? ''}`));
  }
  book.line('processes that are not well in the end', unwell, `${world.slots.length} run`);
  book.line('faults that were not recovered from',
            attack.done.filter(({ recovered }) => recovered === undefined).map(({ name }) => name),
            `${attack.done.length} faults`);
  book.line('faults that could not be made',
            attack.done.filter(({ error }) => error).map(({ name, error }) => `${name}: ${error}`));
  const memory = world.slots.map(({ name, process, starts }) => ({ name, starts, pss: kilobytes(process.pid) }));
  return { book, letters, memory };
}

// What shows only when the processes have ended.
export function accountEnds(book, world) {
  book.line('processes that ended by themselves, or not well', world.died,
            `${world.slots.reduce((sum, { starts }) => sum + starts, 0)} were started`);
  book.line('sanitizers\' reports', world.sanitized);
}
