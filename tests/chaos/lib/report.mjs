// The report, as Markdown that also reads well in a terminal.
import { groupBy } from './group.mjs';

const seconds = (ms) => (ms === undefined ? '–' : (ms / 1000).toFixed(1));

function quantile(list, part) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

function table(head, rows) {
  const plain = (cell) => String(cell).replaceAll('|', '\\|').replaceAll('\n', ' ');
  const all = [head, ...rows].map((row) => row.map(plain));
  const widths = head.map((_, i) => Math.max(3, ...all.map((row) => row[i].length)));
  const line = (row) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
  return [line(all[0]), `|${widths.map((n) => '-'.repeat(n + 2)).join('|')}|`, ...all.slice(1).map(line)].join('\n');
}

function faults(attack) {
  const rows = [...groupBy(attack.done, ({ name }) => name)].sort(([a], [b]) => a.localeCompare(b))
    .map(([name, list]) => {
      const well = list.filter(({ recovered }) => recovered !== undefined);
      const times = well.map(({ recovered }) => recovered);
      const alone = well.filter(({ overlapped }) => !overlapped).map(({ recovered }) => recovered);
      return [name, list.length, seconds(quantile(times, 0.5)), seconds(quantile(times, 1)), alone.length,
              seconds(quantile(alone, 1))];
    });
  return table(['fault', 'times', 'recovery, median s', 'longest s', 'met no other', 'longest of these s'], rows);
}

const OUTCOMES = ['ok', 'accepted', 'failed', 'refused', 'open', 'busy', 'odd'];

function requests(journal) {
  return table(['request', ...OUTCOMES, 'median ms', 'p99 ms'], journal.tallies.map(([name, { outcomes, times }]) =>
    [name, ...OUTCOMES.map((o) => outcomes[o] ?? 0), quantile(times, 0.5) ?? '–', quantile(times, 0.99) ?? '–']));
}

function deaths(letters) {
  const kind = ({ queue, operation, cause }) => JSON.stringify([queue, operation, cause ?? 'none']);
  const rows = [...groupBy(letters, kind)]
    .map(([key, list]) => [...JSON.parse(key), list.length]).sort((a, b) => b[3] - a[3]);
  return rows.length ? table(['queue', 'operation', 'cause', 'letters'], rows) : 'None.';
}

export function accountLines(book) {
  return book.lines.flatMap(({ text, count, about, examples, ok }) => [
    `- ${ok ? 'ok' : '**WRONG**'}: ${count} ${text}${about ? ` (${about})` : ''}`,
    ...examples.map((example) => `    - \`${example}\``),
  ]).join('\n');
}

export function makeReport({ options, lengthMs, attack, journal, book, letters, memory, clients, world }) {
  const turns = journal.writes.filter(({ op }) => op.startsWith('message.'));
  return `### Chaos: ${(lengthMs / 60000).toFixed(1)} minutes, seed ${options.seed}

\`./fleet chaos --minutes ${options.minutes} --seed ${options.seed}\`: ${attack.done.length} faults,
${journal.requests} requests of ${clients.all.length} clients, ${turns.length} turns; ${world.slots.length} processes.
**The accounting ${book.closes ? 'closes' : 'does not close'}.**

#### Faults

Recovery is the time from a fault's end until a turn that began after it was answered. Faults on different
things overlap.

${faults(attack)}

#### Requests

ok: done; accepted: 202; failed: the turn ended without an answer, and says so; refused: nothing was done;
open: it may have been done, the client asks again; busy: the same request is under way. Times are of ok and accepted.

${requests(journal)}

#### Accounting

${accountLines(book)}

#### Dead letters

${deaths(letters)}

#### Memory in the end

${table(['process', 'starts', 'PSS MB'],
        memory.map(({ name, starts, pss }) => [name, starts, (pss / 1024).toFixed(1)]))}
`;
}
