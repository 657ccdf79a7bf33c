// Tables for people.
'use strict';

function text(value, digits) {
  if (typeof value === 'string') return value;
  return Number.isFinite(value) ? value.toFixed(digits) : '-';
}

// Columns: {title, get(row), digits}. The first one is set to the left.
function table(columns, rows) {
  const cells = [columns.map((c) => c.title),
    ...rows.map((row) => columns.map((c) => text(c.get(row), c.digits ?? 0)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells.map((line) => line.map((cell, i) =>
    (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ').trimEnd())
    .join('\n');
}

module.exports = { table };
