// Prometheus' text format, read strictly enough to notice what a scraper would refuse.
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?(?:[0-9.]+(?:e[+-]?[0-9]+)?|Inf)|NaN)$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;

function labelsOf(text) {
  const labels = {};
  while (text) {
    const match = LABEL.exec(text);
    if (!match) throw new Error(`not a list of labels: ${text}`);
    labels[match[1]] = match[2];
    text = text.slice(match[0].length);
  }
  return labels;
}

// An array of {name, labels, value}, with .types: name of a family -> type.
export function parseMetrics(text) {
  const samples = [];
  samples.types = {};
  if (!text.endsWith('\n')) throw new Error('the last line is not ended');
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (comment) {
      if (comment[1] === 'TYPE') samples.types[comment[2]] = comment[3];
      continue;
    }
    const match = SAMPLE.exec(line);
    if (!match) throw new Error(`not a sample: ${line}`);
    samples.push({ name: match[1], labels: labelsOf(match[2] ?? ''), value: Number(match[3]) });
  }
  return samples;
}

// The sum of the samples of this name whose labels include these; 0 when there is none.
export function valueOf(samples, name, labels = {}) {
  return samples
    .filter((s) => s.name === name &&
                   Object.entries(labels).every(([key, value]) => s.labels[key] === value))
    .reduce((sum, s) => sum + s.value, 0);
}
