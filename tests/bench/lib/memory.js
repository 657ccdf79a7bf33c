// The memory bench: what an idle process of each kind takes.
'use strict';

const { Fleet, KINDS } = require('./fleet.js');
const { pssMb, sleep } = require('./measure.js');
const { table } = require('./table.js');

async function memory(options, say) {
  const fleet = new Fleet('memory', process.env.CHATFLEET_BIN, { kinds: KINDS });
  let failed = true;
  try {
    say('starting');
    await fleet.start();
    await sleep(2000);
    const processes = fleet.processes.map(({ kind, pid }) => ({ kind, pss_mb: pssMb(pid) }));
    failed = false;
    return { bench: 'memory', processes };
  } finally {
    await fleet.stop(failed);
  }
}

function print(result) {
  console.log(table([
    { title: 'process', get: (p) => p.kind },
    { title: 'idle PSS MB', get: (p) => p.pss_mb, digits: 1 },
  ], result.processes));
}

module.exports = { run: memory, print };
