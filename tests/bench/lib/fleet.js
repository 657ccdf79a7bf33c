// Processes of the bench's own, in a virtual host and a database of their own.
'use strict';

const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const broker = require('./broker.js');
const { Database } = require('./database.js');
const { sleep, stopProcess } = require('./measure.js');

const READY_MS = 20000;

const base64url = (x) => Buffer.from(x).toString('base64url');

function token(secret, user = 'bench') {
  const now = Math.floor(Date.now() / 1000);
  const text = base64url(JSON.stringify({ alg: 'HS256', typ: 'JWT' })) + '.' +
    base64url(JSON.stringify({ sub: user, iat: now, exp: now + 86400 }));
  return text + '.' + crypto.createHmac('sha256', secret).update(text).digest('base64url');
}

// What a turn takes; the echo needs the last two.
const KINDS = ['persistence', 'inference', 'context-builder', 'gateway'];

// Defaults everywhere, but for the addresses and where logs and state go. env: further settings.
class Fleet {
  constructor(label, bin, { kinds = KINDS.slice(2), env = {} } = {}) {
    this.label = label;
    this.bin = bin;
    this.kinds = kinds;
    this.env = env;
    this.database = kinds.includes('persistence') ? new Database(label) : null;
    this.vhost = `bench-${label}-${process.pid}`;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'chatfleet-bench-'));
    this.secret = crypto.randomBytes(32).toString('hex');
    this.token = token(this.secret);
    this.processes = []; // {kind, pid}
    this.children = [];
  }

  async start() {
    await broker.createVhost(this.vhost);
    if (this.database) await this.database.createWithSchema(this.bin);
    for (const kind of this.kinds) this.processes.push(await this.spawn(kind));
    [this.worker, this.gateway] = ['context-builder', 'gateway'].map((kind) =>
      this.processes.find((p) => p.kind === kind));
    if (this.gateway) this.url = `http://127.0.0.1:${this.port()}`;
  }

  async spawn(kind) {
    const state = path.join(this.dir, `${kind}.json`);
    const child = spawn(path.join(this.bin, `chatfleet-${kind}`), [], {
      stdio: 'ignore',
      env: {
        PATH: process.env.PATH,
        LOG_LEVEL: process.env.LOG_LEVEL || 'info',
        LOG_FILE: this.log(kind),
        STATE_FILE: state,
        RABBITMQ_URL: broker.vhostUrl(this.vhost),
        JWT_SECRET: this.secret,
        BIND_ADDRESS: '127.0.0.1',
        PORT: '0',
        ...(kind === 'persistence' ? { DATABASE_URL: this.database.url } : {}),
        ...this.env,
      },
    });
    child.on('error', () => {});
    this.children.push(child);
    for (const end = Date.now() + READY_MS; !fs.existsSync(state); await sleep(50)) {
      if (child.exitCode !== null || child.pid === undefined || Date.now() > end) {
        throw new Error(`chatfleet-${kind} did not become ready; see ${this.log(kind)}`);
      }
    }
    return { kind, pid: child.pid };
  }

  log(kind) {
    return path.join(this.dir, `${kind}.log`);
  }

  // The port that the gateway found free.
  port() {
    const lines = fs.readFileSync(this.log('gateway'), 'utf8').trim().split('\n');
    return lines.map((line) => JSON.parse(line)).find((line) => line.event === 'listening').port;
  }

  // Logs are kept only when keep says that something went wrong.
  async stop(keep) {
    await Promise.all(this.children.map((child) => stopProcess(child)));
    await broker.deleteVhost(this.vhost);
    if (this.database) await this.database.drop();
    if (!keep) fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

module.exports = { Fleet, KINDS, token };
