// What can happen to the fleet: a table. `on` names what a fault takes hold of: those on the same thing come
// one after the other, others meet. draw() decides by the seed alone; act() does it and undoes it, however
// it ends, and returns when the fleet should be able to recover.
import { closeConnection, management } from '../../integration/lib/management.mjs';
import { until } from '../../integration/lib/wait.mjs';
import { SLOTS } from './world.mjs';

const MODEL_FAULTS = {
  'model: says 500': ['status 500', 'html 502', 'status 503'],
  'model: says 429': ['status 429 1', 'status 429'],
  'model: hangs': ['mute', 'stall', 'silent'],
  'model: cuts its streams': ['drop', 'truncate', 'drop-first', 'error-later'],
  'model: says nonsense': ['bad-json', 'empty-choices', 'empty', 'bad-bytes'],
};

const seconds = (low, high) => (random) => ({ ms: 1000 * random.between(low, high) });
const fraction = (random) => ({ part: random.next() });
const nothing = () => ({});

// Which of a list, as drawn before the list was known.
const at = (list, part) => list[Math.floor(part * list.length)];

const processes = [
  {
    name: 'a process is killed (SIGKILL)', copies: 4, draw: (random) => ({ slot: random.below(SLOTS) }),
    act: (world, { slot }) => world.slots[slot].kill(),
  },
  {
    name: 'all of a kind are killed (SIGKILL)', copies: 2,
    draw: (random) => ({ kind: random.pick(['gateway', 'persistence', 'context-builder', 'inference']) }),
    act: (world, { kind }) => Promise.all(world.of(kind).map((slot) => slot.kill())),
  },
  {
    name: 'a process is drained (SIGTERM)', copies: 3, draw: (random) => ({ slot: random.below(SLOTS) }),
    act: (world, { slot }) => world.slots[slot].drain(),
  },
  {
    name: 'a process is frozen (SIGSTOP, SIGCONT)', copies: 3,
    draw: (random) => ({ slot: random.below(SLOTS), ms: 1000 * random.pick([2, 4, 12]) }),
    async act(world, { slot, ms }) {
      const { process } = world.slots[slot];
      process.signal('SIGSTOP');
      try {
        await world.wait(ms);
      } finally {
        process.signal('SIGCONT');
      }
    },
  },
].map((fault) => ({ on: 'processes', ...fault }));

const NO_MEMORY = '0.0000001', MEMORY = '0.4';
const ROOM = 1000000; // messages, more than ever come

const broker = [
  { name: 'broker: restarted', draw: nothing, act: (world) => world.fleet('broker', 'restart') },
  {
    name: 'broker: stopped for seconds', draw: seconds(3, 8),
    async act(world, { ms }) {
      try {
        await world.fleet('broker', 'stop');
        await world.wait(ms);
      } finally {
        await world.fleet('broker', 'start');
      }
    },
  },
  {
    name: 'broker: dies', draw: nothing,
    async act(world) {
      try {
        await world.fleet('broker', 'ctl', 'eval', 'erlang:halt(137, [{flush, false}]).').catch(() => {});
      } finally {
        await world.fleet('broker', 'restart');
      }
    },
  },
  {
    name: 'broker: closes all connections', draw: nothing,
    act: (world) => world.fleet('broker', 'ctl', 'close_all_connections', '--vhost', world.house.vhost, 'chaos'),
  },
  {
    name: 'broker: closes a connection', copies: 2, draw: fraction,
    async act(world, { part }) {
      const all = await management('GET', `/vhosts/${encodeURIComponent(world.house.vhost)}/connections`);
      if (all.length === 0) return;
      await closeConnection(at(all, part).name).catch((error) => {
        if (error.status !== 404) throw error; // the statistics lag behind
      });
    },
  },
  {
    name: 'broker: a channel breaks', copies: 2, draw: fraction,
    act: (world, { part }) => world.fleet('broker', 'ctl', 'eval',
      `L = rabbit_channel:list(), L =:= [] orelse exit(lists:nth(1 + trunc(${part} * length(L)), L), kill).`),
  },
  {
    name: 'broker: memory alarm', draw: seconds(2, 5),
    async act(world, { ms }) {
      try {
        await world.fleet('broker', 'ctl', 'set_vm_memory_high_watermark', NO_MEMORY);
        await world.wait(ms);
      } finally {
        await world.fleet('broker', 'ctl', 'set_vm_memory_high_watermark', MEMORY);
      }
    },
  },
  {
    name: 'broker: a queue is full', copies: 2,
    draw: (random) => ({
      queue: random.pick(['persistence', 'persistence.commit', 'context-builder', 'inference', 'inference.retry.1s']),
      ms: 1000 * random.between(2, 5),
    }),
    async act(world, { queue, ms }) {
      const limit = (length) => world.policy('chaos-full', {
        pattern: `^${queue.replaceAll('.', '\\.')}$`, 'apply-to': 'queues', definition: { 'max-length': length },
        priority: 2,
      });
      try {
        await limit(1);
        await world.wait(ms);
      } finally {
        await limit(ROOM); // without any the broker would go on refusing (docs/RUNBOOK.md)
      }
    },
  },
].map((fault) => ({ on: 'broker', ...fault }));

// A superuser's way to the server's processes, which belong to another user than the runner.
const shell = (world, command) => world.database.rows(`COPY (SELECT 1) TO PROGRAM '${command}'`).catch(() => {});

const database = [
  { name: 'PostgreSQL: restarted (fast)', draw: nothing, act: (world) => world.fleet('database', 'restart') },
  {
    name: 'PostgreSQL: stopped at once (immediate)', draw: nothing,
    async act(world) {
      try {
        await shell(world, 'kill -QUIT $(head -n 1 postmaster.pid)');
      } finally {
        await world.fleet('database', 'restart');
      }
    },
  },
  {
    name: 'PostgreSQL: stopped for seconds', draw: seconds(3, 8),
    async act(world, { ms }) {
      try {
        await world.fleet('database', 'stop');
        await world.wait(ms);
      } finally {
        await world.fleet('database', 'start');
      }
    },
  },
  {
    name: 'PostgreSQL: a backend crashes', draw: nothing,
    // The shell's parent is the backend itself; the server then starts all of them anew.
    act: (world) => shell(world, 'kill -KILL $PPID'),
  },
  {
    name: 'PostgreSQL: connections are cut', copies: 3, draw: fraction,
    act: (world, { part }) => world.database.rows(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND application_name LIKE '%persistence%' AND hashint8(pid) % 100 / 100.0 <= $1`, [part]),
  },
].map((fault) => ({ on: 'database', ...fault }));

const model = [
  ...Object.entries(MODEL_FAULTS).map(([name, modes]) => ({
    name, draw: (random) => ({ mode: random.pick(modes), ms: 1000 * random.between(2, 6) }),
    async act(world, { mode, ms }) {
      world.model.mode = mode;
      try {
        await world.wait(ms);
      } finally {
        world.model.mode = 'normal';
      }
    },
  })),
  {
    name: 'model: is away', draw: seconds(2, 5),
    async act(world, { ms }) {
      const { port } = world.model;
      await world.model.close();
      try {
        await world.wait(ms);
      } finally {
        await until('the model is back', () => world.model.listen(port).then(() => true));
      }
    },
  },
].map((fault) => ({ on: 'model', ...fault }));

export const FAULTS = [...processes, ...broker, ...database, ...model];
