// The two ways into the fleet, as its clients use them. ask() gives {status, body}, or throws a Lost.
import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { brokerUrl } from '../../integration/lib/environment.mjs';
import { Stream } from '../../integration/lib/sse.mjs';
import { until } from '../../integration/lib/wait.mjs';

// Installed for the integration tests.
const amqp = createRequire(new URL('../../integration/package.json', import.meta.url))('amqplib');

const ANSWER_MS = 75000;  // more than the longest time-out of the shim
const STREAM_MS = 200000; // which begins anew with each piece
const AMQP_MS = 20000;    // an AMQP caller's own patience
const SEEN_MAX = 5000;

// No answer. `open`: it may have been taken all the same. `hung`: the connection stayed, and nothing came.
export class Lost extends Error {
  constructor(message, { open = true, hung = false } = {}) {
    super(message);
    Object.assign(this, { open, hung });
  }
}

const ROUTES = {
  'conversation.create': ['POST', () => '/conversations'],
  'conversation.list': ['GET', () => '/conversations?limit=100'],
  'conversation.get': ['GET', (a) => `/conversations/${a.conversation_id}`],
  'conversation.update': ['PUT', (a) => `/conversations/${a.conversation_id}`],
  'conversation.delete': ['DELETE', (a) => `/conversations/${a.conversation_id}`],
  'message.send': ['POST', (a) => `/conversations/${a.conversation_id}/messages`],
  'message.list': ['GET', (a) => `/conversations/${a.conversation_id}/messages?limit=100`],
  'message.regenerate': ['POST', (a) => `/conversations/${a.conversation_id}/messages/${a.message_id}/regenerate`],
  'turn.get': ['GET', (a) => `/turns/${a.turn_id}`],
};
const IN_PATH = ['conversation_id', 'message_id', 'turn_id'];

export class HttpDoor {
  via = 'HTTP';

  constructor(port) {
    this.port = port;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  }

  // `how`: plain, stream or async, of a turn. Who `leaves` closes his stream as it begins.
  async ask(person, operation, args, { key, how = 'plain', leaves = false } = {}) {
    const [method, path] = ROUTES[operation];
    const body = Object.fromEntries(Object.entries(args).filter(([name]) => !IN_PATH.includes(name)));
    const headers = {
      ...(key && { 'idempotency-key': key }),
      ...(how === 'async' && { prefer: 'respond-async' }),
    };
    if (how === 'stream') return this.#stream(person, path(args), body, headers, leaves);
    let answer;
    try {
      const sent = method === 'POST' || method === 'PUT' ? body : undefined;
      answer = await person.http(this.port, method, path(args), sent,
                                 { headers, agent: this.agent, limit: ANSWER_MS });
    } catch (error) {
      throw new Lost(`${error.code ?? ''} ${error.message}`, { hung: /no answer/.test(error.message) });
    }
    return { status: answer.status, body: answer.text ? answer.json : undefined };
  }

  async #stream(person, path, body, more, leaves) {
    let stream;
    try {
      stream = await Stream.open(this.port, `/api/chat${path}`, {
        body, agent: this.agent, limit: STREAM_MS,
        headers: { authorization: `Bearer ${person.token}`, accept: 'text/event-stream', ...more },
      });
      if (leaves && stream.isStream) {
        stream.leave();
        throw new Lost('the client left');
      }
      await stream.ended;
    } catch (error) {
      if (error instanceof Lost) throw error;
      stream?.leave();
      throw new Lost(`${error.code ?? ''} ${error.message}`, { hung: /in vain/.test(error.message) });
    }
    if (!stream.isStream) return { status: stream.status, body: stream.json };
    const ends = stream.events.filter(({ event }) => event === 'message.completed' || event === 'error');
    if (ends.length === 0) throw new Lost('the stream ended before its answer');
    const { event, data } = ends[0];
    if (event === 'error') return { status: data.status, body: data, ends: ends.length };
    return { status: stream.status, body: data, ends: ends.length, text: stream.text };
  }

  close() {
    this.agent.destroy();
  }
}

// By which one answer can be told from another.
function outcomeOf(status, body) {
  const made = body?.assistant_message ?? body?.new_message;
  return `${status} ${made?.id ?? body?.turn_id ?? body?.id ?? ''} ${made?.content ?? ''}`;
}

export class AmqpDoor {
  via = 'AMQP';
  #session;
  #waiting = new Map();
  #seen = new Map(); // correlation id -> what it was answered

  constructor(vhost, journal) {
    Object.assign(this, { vhost, journal });
  }

  async #open() {
    const connection = await amqp.connect(brokerUrl(this.vhost),
                                          { clientProperties: { connection_name: 'chaos caller' } });
    connection.on('error', () => {});
    connection.on('close', () => {
      this.#session = undefined;
      for (const { reject } of this.#waiting.values()) reject(new Lost('the connection to the broker was lost'));
    });
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => connection.close().catch(() => {}));
    // A channel that broke alone would leave its callers waiting.
    channel.on('close', () => connection.close().catch(() => {}));
    channel.on('return', ({ properties }) =>
      this.#waiting.get(properties.correlationId)?.reject(new Lost('nobody serves it', { open: false })));
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.consume(queue, (message) => message && this.#arrived(message), { noAck: true });
    return { connection, channel, queue };
  }

  // The connection in use, or a new one.
  async #connected() {
    this.#session ??= this.#open();
    try {
      return await this.#session;
    } catch (error) {
      this.#session = undefined;
      throw new Lost(`the broker cannot be reached: ${error.message}`, { open: false });
    }
  }

  // The fleet may tell an outcome twice (by the last step, and by the first when that is delivered again);
  // never two outcomes.
  #arrived({ properties, content }) {
    const { correlationId, type, headers } = properties;
    if (type === 'accepted' || type === 'delta') return;
    const text = content.toString();
    const body = text ? JSON.parse(text) : undefined;
    const outcome = outcomeOf(headers['x-status'], body);
    const before = this.#seen.get(correlationId);
    if (before === outcome) this.journal.echoes++;
    else if (before) this.journal.contradictions.push(`${correlationId}: ${before}, then ${outcome}: ${text}`);
    this.#seen.set(correlationId, outcome);
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.keys().next().value);
    this.#waiting.get(correlationId)?.resolve({ status: headers['x-status'], body });
  }

  // `id` of the message: the same one again is the same request.
  async ask(person, operation, args, { key, id, how = 'plain' } = {}) {
    const { channel, queue } = await this.#connected();
    const correlationId = randomUUID();
    let timer;
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(correlationId, { resolve, reject });
        timer = setTimeout(() => reject(new Lost('no answer within the caller\'s own time')), AMQP_MS);
        const { headers, messageId } = person.envelope({ key });
        const body = { ...args, ...(how === 'stream' && { stream: true }), ...(how === 'async' && { async: true }) };
        channel.publish('chat.rpc', operation, Buffer.from(JSON.stringify(body)), {
          headers, correlationId, messageId: id ?? messageId, type: operation, contentType: 'application/json',
          replyTo: queue, persistent: true, mandatory: true,
        }, (error) => error && reject(new Lost('the broker refused it', { open: /closed/.test(error.message) })));
      });
    } catch (error) {
      if (error instanceof Lost) throw error;
      throw new Lost(error.message); // of a channel that is closing
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(correlationId);
    }
  }

  // A message of any shape, to nobody's answer; whether the broker took it.
  async put(operation, content, properties) {
    try {
      const { channel } = await this.#connected();
      return await new Promise((resolve) => {
        channel.publish('chat.rpc', operation, content, properties, (error) => resolve(!error));
      });
    } catch {
      return false;
    }
  }

  async close() {
    const session = await this.#session?.catch(() => {});
    await session?.connection.close().catch(() => {});
  }
}

async function withChannel(vhost, work) {
  const connection = await until('the broker takes connections', () => amqp.connect(brokerUrl(vhost)));
  try {
    return await work(await connection.createChannel());
  } finally {
    await connection.close();
  }
}

// What is in a queue; all of it goes back as the connection is closed.
export const look = (vhost, queue) => withChannel(vhost, async (channel) => {
  const messages = [];
  for (let m = await channel.get(queue); m; m = await channel.get(queue)) messages.push(m);
  return messages;
});

// What is in a queue, taken out of it.
export const take = (vhost, queue) => withChannel(vhost, async (channel) => {
  const messages = [];
  const { messageCount } = await channel.checkQueue(queue);
  await channel.consume(queue, (message) => messages.push(message), { noAck: true });
  await until(`${messageCount} messages of ${queue}`, () => messages.length >= messageCount, { limit: 60000 });
  return messages;
});
