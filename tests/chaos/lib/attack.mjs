// Carries out a plan: faults on the same thing one after the other, others meet.
import { pause } from '../../integration/lib/wait.mjs';
import { groupBy } from './group.mjs';

const PROBE_MS = 200;       // between two probes
const PROBES_MAX = 20;      // under way at once
const RECOVERY_MS = 120000; // no recovery takes so long

export class Attack {
  done = []; // {name, planned, began, ended, recovered, overlapped, error}
  active = new Set();
  #abort = new AbortController();

  constructor(world, clients, plan, say) {
    Object.assign(this, { world, clients, plan, say, started: Date.now() });
    world.wait = (ms) => this.wait(ms);
  }

  // Ends early when the attack does.
  wait(ms) {
    return pause(Math.max(0, ms), undefined, { signal: this.#abort.signal }).catch(() => {});
  }

  get over() {
    return this.#abort.signal.aborted;
  }

  stop() {
    this.#abort.abort();
  }

  // Until all faults are over and recovered from; those whose turn did not come before `lengthMs` are left out.
  async run(lengthMs) {
    const lanes = groupBy(this.plan, ({ fault }) => fault.on);
    await Promise.all([...lanes.values()].map(async (list) => {
      for (const entry of list) {
        await this.wait(this.started + entry.at - Date.now());
        if (this.over || Date.now() - this.started > lengthMs) return;
        await this.#strike(entry);
      }
    }));
    await this.wait(this.started + lengthMs - Date.now());
  }

  async #strike({ at, fault, with: how }) {
    const record = { name: fault.name, how, planned: at, began: Date.now() };
    for (const other of this.active) other.overlapped = record.overlapped = true;
    this.active.add(record);
    this.done.push(record);
    try {
      await fault.act(this.world, how);
    } catch (error) {
      record.error = error.stderr || error.message;
    }
    record.ended = Date.now();
    record.recovered = await this.#recovery();
    this.active.delete(record);
    this.#tell(record);
  }

  #tell({ name, how, began, ended, recovered, error }) {
    const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
    this.say(`${name} ${JSON.stringify(how)}: ${seconds(ended - began)}, ` +
             `${recovered === undefined ? 'not recovered' : `recovered in ${seconds(recovered)}`}` +
             `${error ? `; ${error}` : ''}`);
  }

  // Milliseconds from now until a turn that begins from now on has its answer; undefined when none does.
  async #recovery() {
    const started = Date.now();
    let recovered, under = 0;
    while (recovered === undefined && Date.now() - started < RECOVERY_MS) {
      if (under < PROBES_MAX) {
        under++;
        this.clients.prober.probe(this.clients.probed).then((well) => {
          under--;
          if (well) recovered ??= Date.now() - started;
        }, () => { under--; });
      }
      await pause(PROBE_MS / 2);
      if (recovered === undefined) await pause(PROBE_MS / 2);
    }
    return recovered;
  }
}
