// People who use the fleet while it is attacked: they ask one thing after the other, repeat honestly what had
// no answer, and write all of it down.
import { randomUUID } from 'node:crypto';
import { Person } from '../../integration/lib/person.mjs';
import { uuid7 } from '../../integration/lib/uuid.mjs';
import { pause } from '../../integration/lib/wait.mjs';
import { AmqpDoor, HttpDoor } from './doors.mjs';
import { judge } from './journal.mjs';
import { Random } from './random.mjs';
import { BUDGETED } from './world.mjs';

const HTTP_CLIENTS = 12;
const AMQP_CLIENTS = 5;
const BUDGETED_EACH = 3;    // each third one is of a tenant with a budget
const PAUSE_MS = [20, 250];
const AGAIN_MS = 300;
const PATIENCE_MS = 100000; // how long one write is repeated
const CONVERSATIONS = 6;    // of a client at once
const MESSAGES = 40;        // of a conversation; then another one is begun

const STEPS = [
  [40, 'send'], [4, 'sendTwoAtOnce'], [8, 'regenerate'], [8, 'create'], [8, 'update'], [3, 'remove'],
  [10, 'listMessages'], [6, 'readConversation'], [6, 'listConversations'],
];
const WAYS = [[50, 'plain'], [30, 'stream'], [20, 'async']];
// What the question itself asks of the model.
const TAGS = [
  [75, ''], [12, ' [model:paced 15]'], [5, ' [model:slow 800]'], [5, ' [model:flaky 1]'], [3, ' [model:split]'],
];

class Client {
  conversations = []; // {id, title, answered: [{question, answer}]}

  constructor(name, { door, journal, random, stopped, tenant }) {
    Object.assign(this, { name, door, journal, random, stopped, person: new Person({ tenant }) });
  }

  async run() {
    while (!this.stopped()) {
      if (this.conversations.length === 0) await this.create();
      else await this[this.random.weighted(STEPS)]();
      await pause(this.random.between(...PAUSE_MS));
    }
    await this.door.close();
  }

  // One request: {outcome, body, text}.
  async #request(op, args, options, write) {
    const { journal, door } = this;
    const via = options.how === 'stream' || options.how === 'async' ? `${door.via} ${options.how}` : door.via;
    const about = `${this.name} ${via} ${op} ${write?.text ?? ''}`;
    const started = Date.now();
    let answer, outcome;
    try {
      answer = await door.ask(this.person, op, args, options);
      outcome = judge(answer.status, answer.body);
      // Deleted by an attempt that was not answered.
      if (op === 'conversation.delete' && answer.status === 404 && write.open > 0) outcome = 'ok';
      if (outcome === 'odd') journal.odd.push(`${about}: ${answer.status} ${JSON.stringify(answer.body)}`);
      if (answer.ends > 1) journal.contradictions.push(`${write.text}: a stream with ${answer.ends} ends`);
    } catch (error) {
      if (!('open' in error)) throw error;
      outcome = error.open ? 'open' : 'refused';
      if (error.hung) journal.hung.push(`${about}: ${error.message}`);
    }
    journal.note(via, op, outcome, Date.now() - started);
    return { outcome, body: answer?.body, text: answer?.text };
  }

  // Sends a write until its outcome is known, if it may be sent again. Returns the answer if there is one.
  async #insist(write, args, how) {
    const overHttp = this.door.via === 'HTTP';
    const op = write.op;
    const again = write.key || !overHttp || op === 'conversation.update' || op === 'conversation.delete';
    const gives = this.random.chance(0.1) ? 0 : PATIENCE_MS; // some never come back
    for (const end = Date.now() + gives; ;) {
      write.attempts++;
      const leaves = write.attempts === 1 && this.random.chance(0.07);
      const options = { key: write.key, id: write.id, how, leaves };
      const { outcome, body, text } = await this.#request(op, args, options, write);
      write.outcome = outcome;
      if (outcome === 'open') write.open++;
      if (outcome === 'failed') {
        write.failures++;
        write.failed = body.turn_id;
      }
      if (outcome === 'ok' || outcome === 'accepted') {
        if (text !== undefined) this.#compare(write, text, body);
        return body;
      }
      // The same message id has the same end; the same key is free again.
      const final = outcome === 'odd' || (outcome === 'failed' && (!overHttp || !write.key || write.failures > 2));
      if (final || Date.now() > end || !(again || outcome === 'refused')) return undefined;
      this.journal.repeats++;
      await pause(AGAIN_MS);
    }
  }

  // What was streamed is what was saved.
  #compare(write, text, body) {
    const { content } = body.assistant_message ?? body.new_message;
    if (text !== content) this.journal.contradictions.push(`${write.text}: streamed "${text}", saved "${content}"`);
  }

  #begin(op, about = {}) {
    const keyed = op !== 'conversation.update' && op !== 'conversation.delete' && this.random.chance(0.8);
    return this.journal.write(op, {
      person: this.person.id, via: this.door.via, ...(keyed && { key: randomUUID() }),
      ...(this.door.via === 'AMQP' && { id: uuid7() }), ...about,
    });
  }

  async create() {
    if (this.conversations.length >= CONVERSATIONS) this.conversations.shift();
    const write = this.#begin('conversation.create');
    const body = await this.#insist(write, { title: write.text });
    if (!body) return;
    write.ids.conversation = body.id;
    this.conversations.push({ id: body.id, title: write.text, answered: [], size: 0 });
    if (write.key && this.random.chance(0.1)) {
      await this.#sameAgain(write, { title: write.text }, ({ id }) => id === body.id);
    }
  }

  // The key gives the first outcome again, over HTTP also at another shim.
  async #sameAgain(write, args, same) {
    const { outcome, body } = await this.#request(write.op, args, { key: write.key }, write);
    if (outcome === 'ok' && !same(body)) {
      this.journal.contradictions.push(`${write.text}: its key gave another outcome, ${JSON.stringify(body)}`);
    }
  }

  // A conversation with room; a new one takes the place of one that is full.
  #conversation() {
    this.conversations = this.conversations.filter(({ size }) => size < MESSAGES);
    return this.conversations.length ? this.random.pick(this.conversations) : undefined;
  }

  send() {
    const conversation = this.#conversation();
    return conversation ? this.#turn(conversation, 'message.send', {}) : this.create();
  }

  sendTwoAtOnce() {
    const conversation = this.#conversation();
    if (!conversation) return this.create();
    return Promise.all([0, 1].map(() => this.#turn(conversation, 'message.send', {})));
  }

  regenerate() {
    const conversation = this.random.pick(this.conversations);
    if (conversation.answered.length === 0) return undefined;
    const { question, answer } = this.random.pick(conversation.answered);
    return this.#turn(conversation, 'message.regenerate', { message_id: this.random.chance(0.5) ? question : answer });
  }

  async #turn(conversation, op, about) {
    const how = this.random.weighted(WAYS);
    const write = this.#begin(op, { conversation: conversation.id });
    if (op === 'message.send') write.text += this.random.weighted(TAGS);
    const args = { conversation_id: conversation.id, ...about, ...(op === 'message.send' && { content: write.text }) };
    conversation.size += 2;
    let body = await this.#insist(write, args, how);
    if (write.outcome === 'accepted') body = await this.#follow(write, body.turn_id);
    if (!body) return;
    const answer = body.assistant_message ?? body.new_message;
    Object.assign(write.ids, {
      turn: body.turn_id ?? write.ids.turn, answer: answer.id,
      question: body.user_message?.id ?? answer.parent_message_id,
    });
    write.answer = answer.content;
    conversation.answered.push(write.ids);
    if (write.key && this.random.chance(0.1)) {
      await this.#sameAgain(write, args, (b) => (b.assistant_message ?? b.new_message).id === answer.id);
    }
  }

  // Asks for a turn until it has ended; gives its answer if it has one.
  async #follow(write, turn) {
    write.ids.turn = turn;
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await pause(AGAIN_MS)) {
      const { outcome, body } = await this.#request('turn.get', { turn_id: turn }, {}, write);
      if (outcome !== 'ok' || body.state === 'accepted') continue;
      write.outcome = body.state === 'completed' ? 'ok' : 'failed';
      return body.result ?? undefined;
    }
    return undefined;
  }

  async update() {
    const conversation = this.random.pick(this.conversations);
    const write = this.#begin('conversation.update', { conversation: conversation.id });
    await this.#insist(write, { conversation_id: conversation.id, title: write.text });
  }

  async remove() {
    if (this.conversations.length < 2) return;
    const [conversation] = this.conversations.splice(this.random.below(this.conversations.length), 1);
    const write = this.#begin('conversation.delete', { conversation: conversation.id });
    await this.#insist(write, { conversation_id: conversation.id });
  }

  // What was told before a read is in it.
  async #see(op, conversation, idsOf, wanted) {
    const args = conversation ? { conversation_id: conversation.id } : {};
    const { outcome, body } = await this.#request(op, args, {});
    if (outcome !== 'ok') return;
    const ids = new Set(idsOf(body));
    const missing = wanted.filter((id) => !ids.has(id));
    if (missing.length) this.journal.stale.push(`${this.name} ${op} ${conversation?.id ?? ''}: ${missing} missing`);
  }

  listMessages() {
    const conversation = this.random.pick(this.conversations);
    const wanted = conversation.answered.flatMap(({ question, answer }) => [question, answer]);
    return this.#see('message.list', conversation, ({ messages }) => messages.map(({ id }) => id),
                     wanted.length < 50 ? wanted : []);
  }

  readConversation() {
    const conversation = this.random.pick(this.conversations);
    return this.#see('conversation.get', conversation, (body) => [body.conversation.id], [conversation.id]);
  }

  listConversations() {
    return this.#see('conversation.list', undefined, ({ conversations }) => conversations.map(({ id }) => id),
                     this.conversations.length ? [this.conversations.at(-1).id] : []);
  }

  // One turn, not repeated: does it go through?
  async probe(conversation) {
    const write = this.journal.write('message.send', { person: this.person.id, via: this.door.via, conversation });
    write.attempts++;
    const { outcome, body } = await this.#request(write.op, { conversation_id: conversation, content: write.text },
                                                  {}, write);
    write.outcome = outcome;
    if (outcome === 'open') write.open++;
    if (outcome !== 'ok') return false;
    write.ids = { turn: body.turn_id, question: body.user_message.id, answer: body.assistant_message.id };
    write.answer = body.assistant_message.content;
    return true;
  }
}

const STRAY_MS = [300, 1500];
const TOO_LARGE = Buffer.alloc(1100000, 'x'); // more than MAX_MESSAGE_BYTES
const STRAYS = [
  [5, ['no JSON', 'conversation.create', Buffer.from('what is this?')]],
  [5, ['wrong arguments', 'conversation.create', Buffer.from('{"title": 5}')]],
  [5, ['a step of no turn', 'context.build', Buffer.from('{}')]],
  [5, ['a step of no turn', 'inference.generate', Buffer.from('{"turn": "none"}')]],
  [5, ['a step of no turn', 'message.commit', Buffer.from('{"answer": {}}')]],
  [5, ['an unknown type', 'message.send', Buffer.from('{}'), 'no.such.thing']],
  [1, ['too large', 'message.send', TOO_LARGE]],
];

// Somebody who sends what nobody can use and wants no answer. It is not to disappear.
class Stranger extends Client {
  async run() {
    while (!this.stopped()) {
      const [what, operation, content, type = operation] = this.random.weighted(STRAYS);
      const { headers, messageId: id } = this.person.envelope();
      const properties = {
        headers, messageId: id, correlationId: id, type, contentType: 'application/json', persistent: true,
      };
      if (await this.door.put(operation, content, properties)) this.journal.strays.push({ id, what });
      await pause(this.random.between(...STRAY_MS));
    }
    await this.door.close();
  }
}

// Everybody.
export class Clients {
  #stopped = false;

  constructor(world, journal, seed) {
    const stopped = () => this.#stopped;
    let count = 0;
    const client = (name, door, Kind = Client) => new Kind(name, {
      door, journal, random: new Random(seed, name), stopped, tenant: count++ % BUDGETED_EACH === 0 ? BUDGETED : undefined,
    });
    const amqp = () => new AmqpDoor(world.house.vhost, journal);
    this.all = [
      ...Array.from({ length: HTTP_CLIENTS }, (_, i) => client(`person ${i + 1}`, new HttpDoor(world.port))),
      ...Array.from({ length: AMQP_CLIENTS }, (_, i) => client(`service ${i + 1}`, amqp())),
      client('stranger', amqp(), Stranger),
    ];
    this.prober = client('probe', new HttpDoor(world.port));
    this.prober.door.agent.maxSockets = Infinity;
    this.running = Promise.all(this.all.map((one) => one.run()));
    this.running.catch(() => {});
  }

  async prepare() {
    await this.prober.create();
    this.probed = this.prober.conversations[0].id;
  }

  // They finish what they have begun.
  async stop() {
    this.#stopped = true;
    await this.running;
    this.prober.door.close();
  }
}
