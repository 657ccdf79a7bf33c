// A Redis of a test's own, on a free port, which can be killed, frozen and started again.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { until } from './wait.mjs';

const execute = promisify(execFile);

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Redis {
  #child;
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chatfleet-redis-'));

  // With `keeps`, what it knows survives its end.
  static async open({ password = '', keeps = false } = {}) {
    const redis = new Redis();
    Object.assign(redis, { password, keeps, port: await freePort() });
    return redis;
  }

  get url() {
    return `redis://${this.password ? `:${encodeURIComponent(this.password)}@` : ''}127.0.0.1:${this.port}`;
  }

  async start() {
    this.#child = spawn('redis-server', [
      '--port', this.port, '--bind', '127.0.0.1', '--dir', this.#folder, '--save', '',
      '--appendonly', this.keeps ? 'yes' : 'no', '--appendfsync', 'always',
      ...(this.password ? ['--requirepass', this.password] : []),
    ], { stdio: 'ignore' });
    await until('redis answers', () => this.cli('PING').then((said) => said === 'PONG', () => false));
    return this;
  }

  signal(name) {
    this.#child.kill(name);
  }

  async kill() {
    const ended = new Promise((resolve) => this.#child.on('close', resolve));
    this.signal('SIGKILL');
    await ended;
    this.#child = undefined;
  }

  // What redis-cli says to a command, a list as lines.
  async cli(...words) {
    const { stdout } = await execute('redis-cli', ['-p', this.port, ...words.map(String)], {
      env: { ...process.env, REDISCLI_AUTH: this.password }, timeout: 5000 });
    return stdout.trim();
  }

  async close() {
    if (this.#child) await this.kill();
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}
