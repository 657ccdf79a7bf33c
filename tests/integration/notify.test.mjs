// What the processes tell a service manager (sd_notify), and what they take from it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { until } from './lib/wait.mjs';

// Node has no datagram sockets of the unix kind; perl is on every Debian.
const MANAGER = `
  use IO::Socket::UNIX;
  $| = 1;
  my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die $!;
  print "listening\\n";
  while (defined $s->recv(my $text, 4096)) { print "$text\\n" }`;

class Manager {
  constructor(file) {
    this.file = file;
    this.heard = [];
    this.child = spawn('perl', ['-e', MANAGER, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.child.stdout.setEncoding('utf8');
    this.child.stdout.on('data', (text) => this.heard.push(...text.trim().split('\n')));
    this.ended = new Promise((resolve) => this.child.on('close', resolve));
  }

  hears(what, times = 1) {
    return until(`${what}, ${times} times`, () =>
      this.heard.filter((line) => line === what).length >= times);
  }

  stop() {
    this.child.kill();
    return this.ended;
  }
}

describe('under a service manager', () => {
  let house, managers = [];

  before(async () => { house = await House.open('notify'); });
  after(async () => {
    await house.close();
    await Promise.all(managers.map((m) => m.stop()));
  });

  async function manager() {
    const m = new Manager(path.join(house.folder, `notify-${managers.length}`));
    managers.push(m);
    await m.hears('listening');
    return m;
  }

  for (const name of ['chatfleet-context-builder', 'chatfleet-gateway']) {
    it(`${name} says when it is ready, that it lives, and when it stops`, async () => {
      const m = await manager();
      const p = house.start(name, { NOTIFY_SOCKET: m.file, WATCHDOG_USEC: '200000' });
      await m.hears('READY=1');
      await m.hears('WATCHDOG=1', 3);
      await p.stop();
      await m.hears('STOPPING=1');
      assert.ok(m.heard.indexOf('READY=1') < m.heard.indexOf('STOPPING=1'));
    });
  }

  it('a watchdog for another process is not fed', async () => {
    const m = await manager();
    const p = house.start('chatfleet-context-builder', {
      NOTIFY_SOCKET: m.file, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' });
    await m.hears('READY=1');
    await p.stop();
    await m.hears('STOPPING=1');
    assert.ok(!m.heard.includes('WATCHDOG=1'));
  });

  it('secrets come as credentials', async () => {
    const folder = path.join(house.folder, 'credentials');
    fs.mkdirSync(folder);
    for (const name of ['RABBITMQ_URL', 'JWT_SECRET', 'INTERNAL_SERVICE_KEY']) {
      fs.writeFileSync(path.join(folder, name), `${house.env[name]}\n`, { mode: 0o400 });
    }
    await house.start('chatfleet-gateway', {
      RABBITMQ_URL: undefined, JWT_SECRET: undefined, INTERNAL_SERVICE_KEY: undefined,
      CREDENTIALS_DIRECTORY: folder,
    }).ready();
  });
});
