// Starting the fleet's processes, and seeing them end well.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { binary } from './environment.mjs';
import { later, until } from './wait.mjs';

const SANITIZER = /(ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|LeakSanitizer)/;

// Only what a process needs to run: settings of whoever runs the tests must not leak in.
export function plainEnvironment(extra) {
  const env = { ...extra };
  for (const name of ['PATH', 'HOME', 'LANG', 'TMPDIR', 'LD_LIBRARY_PATH']) {
    if (process.env[name]) env[name] = process.env[name];
  }
  for (const name of Object.keys(process.env)) {
    if (/^(A|UB|L|T)SAN_OPTIONS$/.test(name)) env[name] ??= process.env[name];
  }
  for (const name of Object.keys(env)) if (env[name] === undefined) delete env[name];
  return env;
}

// A process of the fleet that runs until it is told to stop.
export class Process {
  constructor(name, { env, stateFile, command = [binary(name)] }) {
    this.name = name;
    this.stateFile = stateFile;
    this.lines = [];
    this.stderr = '';
    this.child = spawn(command[0], command.slice(1), {
      env: plainEnvironment(env), stdio: ['ignore', 'ignore', 'pipe'],
    });
    let rest = '';
    this.child.stderr.setEncoding('utf8');
    this.child.stderr.on('data', (text) => {
      this.stderr += text;
      const parts = (rest + text).split('\n');
      rest = parts.pop();
      for (const part of parts) this.lines.push(readLine(part));
    });
    this.exit = new Promise((resolve) => {
      this.child.on('close', (code, signal) => {
        this.ended = { code, signal };
        resolve(this.ended);
      });
      this.child.on('error', (error) => {
        this.ended = { error };
        resolve(this.ended);
      });
    });
  }

  get pid() {
    return this.child.pid;
  }

  events(name) {
    return this.lines.filter((line) => line.event === name);
  }

  event(name, matches = () => true) {
    return until(`${this.name} logs "${name}"`, () => {
      const found = this.events(name).find(matches);
      if (!found && this.ended) throw new Error(`${this.name} ended:\n${this.stderr}`);
      return found;
    });
  }

  // Ready to serve, as its state file says; from then on .adminPort is known.
  async ready() {
    const state = await until(`${this.name} is ready`, () => {
      if (this.ended) throw new Error(`${this.name} ended:\n${this.stderr}`);
      return fs.existsSync(this.stateFile) && JSON.parse(fs.readFileSync(this.stateFile, 'utf8'));
    });
    assert.equal(state.pid, this.pid);
    assert.equal(state.name, this.name);
    this.adminPort = Number(state.admin.split(':').pop());
    return this;
  }

  // Where the shim listens; it is known before the shim is ready.
  async listening() {
    this.port = (await this.event('listening')).port;
    return this.port;
  }

  signal(name) {
    if (['SIGSTOP', 'SIGCONT'].includes(name)) this.frozen = name === 'SIGSTOP';
    this.child.kill(name);
  }

  // Lets it go on if it was frozen, and only then: a SIGCONT takes back the SIGSTOP by which the leak check
  // at a process's end holds it, and the check would wait for ever.
  thaw() {
    if (this.frozen) this.signal('SIGCONT');
  }

  // Ends it on purpose in a way that it cannot survive.
  async kill() {
    this.killed = true;
    this.signal('SIGKILL');
    await this.exit;
  }

  // Waits until it has ended itself at the point that CHATFLEET_FAULT names (common/base/fault.h).
  async faulted(limit) {
    await until(`${this.name} passes its fault point`, () => this.ended, { limit });
    assert.doesNotMatch(this.stderr, SANITIZER, `${this.name} wrote a sanitizer's report`);
    assert.equal(this.ended.signal, 'SIGKILL', tail(this.stderr));
    this.killed = true;
  }

  async end() {
    const { promise, resolve } = later(`${this.name} ends`, { limit: 45000 });
    this.exit.then(resolve);
    return promise.catch((error) => {
      error.message += `\n${threads(this.pid)}${tail(this.stderr)}`;
      throw error;
    });
  }

  // SIGTERM, and what must be true of the end of every process.
  async stop() {
    if (this.killed) return;
    if (!this.ended) {
      this.thaw();
      this.signal('SIGTERM');
    }
    await this.end();
    assert.doesNotMatch(this.stderr, SANITIZER, `${this.name} wrote a sanitizer's report`);
    assert.deepEqual({ code: this.ended.code, signal: this.ended.signal },
                     { code: 0, signal: null }, `how ${this.name} ended:\n${tail(this.stderr)}`);
    if (this.stateFile) {
      assert.ok(!fs.existsSync(this.stateFile), `${this.name} removed its state file`);
    }
  }
}

function readLine(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { event: undefined, text };
  }
}

// What each thread of a process does, as far as the system tells.
function threads(pid) {
  const folder = `/proc/${pid}/task`;
  const read = (tid, name) => fs.readFileSync(`${folder}/${tid}/${name}`, 'utf8').trim();
  try {
    return fs.readdirSync(folder).map((tid) => {
      const of = (name) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(read(tid, 'status'))[1];
      return `thread ${tid}: ${of('State')}, traced by ${of('TracerPid')}, waits in ${read(tid, 'wchan')}\n`;
    }).join('');
  } catch (error) {
    return `${error.message}\n`; // it has ended meanwhile
  }
}

const tail = (text) => text.split('\n').slice(-20).join('\n');

// Runs a command to its end: {code, stdout, stderr}.
export async function run(name, args, env = {}, { limit = 15000 } = {}) {
  const child = spawn(binary(name), args, {
    env: plainEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr']) {
    child[stream].setEncoding('utf8');
    child[stream].on('data', (text) => { out[stream] += text; });
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), limit);
  out.code = await new Promise((resolve, reject) => {
    child.on('close', (code, signal) => resolve(code ?? signal));
    child.on('error', reject);
  });
  clearTimeout(timer);
  assert.doesNotMatch(out.stderr, SANITIZER, `${name} ${args.join(' ')}`);
  return out;
}
