// Which fault comes when: made before the run, by the seed alone.
import { FAULTS } from './faults.mjs';
import { Random } from './random.mjs';

const FIRST_MS = 5000;
const GAP_MS = [2000, 6000];

// [{at, fault, with}]: ms after the start, a row of FAULTS, what it was drawn to do. Faults are dealt like
// cards, so that each kind comes once (or `copies` times) before one comes again.
export function makePlan(seed, lengthMs) {
  const random = new Random(seed, 'plan');
  const cards = FAULTS.flatMap((fault) => Array(fault.copies ?? 1).fill(fault));
  const plan = [];
  let deck = [];
  for (let at = FIRST_MS; at < lengthMs; at += random.between(...GAP_MS)) {
    if (deck.length === 0) deck = random.shuffled(cards);
    const fault = deck.pop();
    plan.push({ at, fault, with: fault.draw(random) });
  }
  return plan;
}
