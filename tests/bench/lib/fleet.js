// A gateway and a context-builder of the bench's own, in a virtual host of its own.
'use strict';

const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const broker = require('./broker.js');
const { sleep } = require('./measure.js');

const READY_MS = 20000;
const STOP_MS = 10000;

const base64url = (x) => Buffer.from(x).toString('base64url');

function token(secret) {
  const now = Math.floor(Date.now() / 1000);
  const text = base64url(JSON.stringify({ alg: 'HS256', typ: 'JWT' })) + '.' +
    base64url(JSON.stringify({ sub: 'bench', iat: now, exp: now + 86400 }));
  return text + '.' + crypto.createHmac('sha256', secret).update(text).digest('base64url');
}

// Defaults everywhere, but for the addresses and where logs and state go.
class Fleet {
  constructor(label, bin) {
    this.label = label;
    this.bin = bin;
    this.vhost = `bench-${label}-${process.pid}`;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'chatfleet-bench-'));
    this.secret = crypto.randomBytes(32).toString('hex');
    this.token = token(this.secret);
    this.processes = [];
  }

  async start() {
    await broker.createVhost(this.vhost);
    this.worker = await this.spawn('context-builder');
    this.gateway = await this.spawn('gateway');
    this.url = `http://127.0.0.1:${this.port()}`;
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
      },
    });
    const process_ = { kind, pid: child.pid, child };
    child.on('error', () => {});
    this.processes.push(process_);
    for (const end = Date.now() + READY_MS; !fs.existsSync(state); await sleep(50)) {
      if (child.exitCode !== null || child.pid === undefined || Date.now() > end) {
        throw new Error(`chatfleet-${kind} did not become ready; see ${this.log(kind)}`);
      }
    }
    return process_;
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
    await Promise.all(this.processes.map(async ({ child }) => {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => { child.on('exit', resolve); });
      child.kill('SIGTERM');
      await Promise.race([ended, sleep(STOP_MS)]);
      child.kill('SIGKILL');
    }));
    await broker.deleteVhost(this.vhost);
    if (!keep) fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

module.exports = { Fleet };
