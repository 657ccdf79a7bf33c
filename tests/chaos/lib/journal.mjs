// What the clients sent and what they were told: all that is counted afterwards.
import { randomUUID } from 'node:crypto';

// What an answer means for whoever asked.
//   ok        done, and told
//   accepted  202: in the database, its end is told elsewhere
//   failed    the turn ended without an answer; its question stays
//   refused   nothing was done
//   open      it may have been done, or be done later
//   busy      the same request is under way already
//   odd       what no fault explains
export function judge(status, body) {
  if (status === 202) return 'accepted';
  if (status >= 200 && status < 300) return 'ok';
  const detail = body?.detail ?? '';
  if (status === 409 && /under way|just ended/.test(detail)) return 'busy';
  if (![502, 503, 504].includes(status)) return 'odd';
  if (body?.user_message_id) return 'failed';
  return /outcome is open/.test(detail) ? 'open' : 'refused';
}

export class Journal {
  writes = [];
  odd = [];            // answers that no fault explains
  hung = [];           // requests that had no answer within their time
  contradictions = []; // one request, two answers
  stale = [];          // reads that did not show what had been told before
  strays = [];         // {id, what} of messages that can only end as dead letters
  echoes = 0;          // the same answer, delivered more than once over AMQP
  repeats = 0;
  #tallies = new Map();
  #count = 0;

  // A write that begins; `text` is in no other one. Whoever sends it fills in the rest:
  //   outcome   of the last attempt, as judge() says; undefined before
  //   open      attempts whose outcome is open
  //   failures  turns of it that failed, of which failed is the last one's id
  //   ids       {conversation, turn, question, answer} as told
  write(op, about) {
    const write = {
      op, text: `w${++this.#count}-${randomUUID().slice(0, 8)}`, attempts: 0, open: 0, failures: 0, ids: {}, ...about,
    };
    this.writes.push(write);
    return write;
  }

  // One request and its end.
  note(via, op, outcome, ms) {
    const name = `${via} ${op}`;
    let tally = this.#tallies.get(name);
    if (!tally) this.#tallies.set(name, tally = { outcomes: {}, times: [] });
    tally.outcomes[outcome] = (tally.outcomes[outcome] ?? 0) + 1;
    if (outcome === 'ok' || outcome === 'accepted') tally.times.push(ms);
  }

  get tallies() {
    return [...this.#tallies].sort(([a], [b]) => a.localeCompare(b));
  }

  get requests() {
    return this.tallies.reduce((sum, [, { outcomes }]) =>
      sum + Object.values(outcomes).reduce((a, b) => a + b, 0), 0);
  }
}
