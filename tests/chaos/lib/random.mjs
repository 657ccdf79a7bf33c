// Random numbers that a seed makes again.
import { createHash } from 'node:crypto';

export class Random {
  #state;

  // One that is independent of those with other names.
  constructor(seed, name = '') {
    this.#state = createHash('sha256').update(`${seed} ${name}`).digest().readUInt32LE(0);
  }

  // From 0 to 1, without it (mulberry32).
  next() {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  below(n) {
    return Math.floor(this.next() * n);
  }

  between(low, high) {
    return low + this.below(high - low + 1);
  }

  chance(probability) {
    return this.next() < probability;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  // One of [[weight, value], …].
  weighted(list) {
    let at = this.next() * list.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of list) {
      at -= weight;
      if (at < 0) return value;
    }
    return list.at(-1)[1];
  }

  shuffled(list) {
    const deck = [...list];
    for (let i = deck.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [deck[i], deck[j]] = [deck[j], deck[i]];
    }
    return deck;
  }
}
