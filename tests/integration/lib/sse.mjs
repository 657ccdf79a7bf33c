// A client of server-sent events, which reads them as strictly as the standard allows.
import http from 'node:http';
import { later, until } from './wait.mjs';

export class Stream {
  // Resolves with the head of the answer: a stream, or what came instead of one.
  // `text` is what the client has already, of a stream that is to go on.
  static open(port, path, { method = 'POST', body, headers = {}, agent = false, limit, text = '' } = {}) {
    const stream = new Stream();
    const payload = method === 'GET' ? '' : JSON.stringify(body ?? {});
    const given = Object.fromEntries(Object.entries(headers).filter(([, value]) => value));
    const head = later(`the head of the answer to ${path}`, { limit });
    const ended = later(`the end of the stream ${path}`, { limit });
    stream.events = [];
    stream.before = text;
    stream.comments = 0;
    stream.raw = '';
    stream.ended = ended.promise;
    stream.request = http.request({
      host: '127.0.0.1', port, path, agent, method,
      headers: method === 'GET' ? given : {
        'content-type': 'application/json', 'content-length': Buffer.byteLength(payload), ...given,
      },
    }, (response) => {
      stream.response = response;
      stream.status = response.statusCode;
      stream.headers = response.headers;
      stream.localPort = response.socket.localPort;
      response.setEncoding('utf8');
      response.on('data', (part) => stream.#take(part));
      response.on('end', () => ended.resolve(stream));
      response.on('error', (error) => ended.reject(error));
      head.resolve(stream);
    });
    stream.request.on('error', (error) => {
      head.reject(error);
      ended.reject(error);
    });
    stream.request.end(payload);
    return head.promise;
  }

  get isStream() {
    return this.headers['content-type'] === 'text/event-stream';
  }

  #rest = '';

  #take(part) {
    this.raw += part;
    if (!this.isStream) return;
    this.#rest += part;
    for (let end = this.#rest.indexOf('\n\n'); end >= 0; end = this.#rest.indexOf('\n\n')) {
      const block = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 2);
      if (block.startsWith(':')) this.comments++;
      else this.events.push(readEvent(block));
    }
  }

  // The text as the client has it now; fails when a delta does not go on where the text ended.
  get text() {
    let text = Buffer.from(this.before);
    for (const { event, data } of this.events) {
      if (event === 'reset') text = Buffer.alloc(0);
      if (event !== 'delta') continue;
      if (data.offset !== text.length) {
        throw new Error(`a delta at ${data.offset}, where the text has ${text.length} bytes`);
      }
      text = Buffer.concat([text, Buffer.from(data.text)]);
    }
    return text.toString();
  }

  get names() {
    return this.events.map(({ event }) => event);
  }

  get last() {
    return this.events.at(-1);
  }

  get json() {
    return JSON.parse(this.raw);
  }

  // Waits until the text is as long as this one, or this many bytes.
  has(length) {
    return until(`${length} bytes of text`, () => Buffer.byteLength(this.text) >= length && this.text, { every: 5 });
  }

  event(name, count = 1) {
    return until(`${count} events ${name}`, () =>
      this.events.filter(({ event }) => event === name).length >= count &&
      this.events.find(({ event }) => event === name), { every: 5 });
  }

  leave() {
    this.ended.catch(() => {});
    this.request.destroy();
  }
}

function readEvent(block) {
  const event = {};
  for (const line of block.split('\n')) {
    const [, name, value] = /^([a-z]+): (.*)$/.exec(line) ?? [];
    if (!name || name in event) throw new Error(`not a field of an event: ${line}`);
    event[name] = name === 'data' ? JSON.parse(value) : value;
  }
  return event;
}
