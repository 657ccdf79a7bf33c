// Stands between a worker and PostgreSQL and writes down what the worker sends: the statements of each
// transaction with their parameters, as they are on the wire. So a yardstick can run the worker's own
// statements, which no copy of them would stay.
'use strict';

const net = require('node:net');

const [PARSE, BIND, SYNC] = ['P', 'B', 'S'];

// The messages of a client (PostgreSQL's protocol 3) out of its bytes: the first has no type.
class Messages {
  constructor(take) {
    this.take = take;
    this.started = false;
    this.rest = Buffer.alloc(0);
  }

  add(bytes) {
    let b = Buffer.concat([this.rest, bytes]);
    for (;;) {
      const head = this.started ? 1 : 0;
      if (b.length < head + 4) break;
      const size = head + b.readUInt32BE(head);
      if (b.length < size) break;
      if (this.started) this.take(String.fromCharCode(b[0]), b.subarray(5, size));
      this.started = true;
      b = b.subarray(size);
    }
    this.rest = b;
  }
}

// A cursor over a message's fields.
class Fields {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  text() {
    const end = this.bytes.indexOf(0, this.at);
    const text = this.bytes.toString('utf8', this.at, end);
    this.at = end + 1;
    return text;
  }

  int16() {
    this.at += 2;
    return this.bytes.readInt16BE(this.at - 2);
  }

  value() {
    const size = this.bytes.readInt32BE(this.at);
    this.at += 4;
    if (size < 0) return null;
    this.at += size;
    return this.bytes.toString('utf8', this.at - size, this.at);
  }
}

class Wire {
  // url: of the real database. this.url is what the worker is to use.
  async listen(url) {
    const real = new URL(url), mine = new URL(url);
    this.segments = []; // [{sql, params}] each
    this.recording = false;
    this.server = net.createServer((client) => {
      const upstream = net.connect(Number(real.port || 5432), real.hostname);
      const record = this.recorder();
      const messages = new Messages(record);
      client.setNoDelay(true);
      upstream.setNoDelay(true);
      client.on('data', (d) => { messages.add(d); upstream.write(d); });
      upstream.pipe(client);
      for (const [a, b] of [[client, upstream], [upstream, client]]) {
        a.on('error', () => b.destroy());
        a.on('close', () => b.destroy());
      }
    });
    await new Promise((resolve) => { this.server.listen(0, '127.0.0.1', resolve); });
    mine.host = `127.0.0.1:${this.server.address().port}`;
    mine.searchParams.set('sslmode', 'disable');
    mine.searchParams.set('gssencmode', 'disable');
    this.url = mine.href;
  }

  recorder() {
    const prepared = new Map();
    let segment = [];
    return (type, bytes) => {
      const fields = new Fields(bytes);
      if (type === PARSE) {
        const name = fields.text();
        prepared.set(name, fields.text());
      } else if (type === BIND) {
        fields.text(); // the portal
        const sql = prepared.get(fields.text());
        for (let n = fields.int16(); n > 0; n--) fields.int16(); // formats
        segment.push({ sql, params: Array.from({ length: fields.int16() }, () => fields.value()) });
      } else if (type === SYNC) {
        if (this.recording && segment.length > 0) this.segments.push(segment);
        segment = [];
      }
    };
  }

  close() {
    if (this.server) this.server.close();
  }
}

module.exports = { Wire };
