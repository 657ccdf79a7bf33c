// Figures: of processes out of /proc, of a load generator out of its last line.
'use strict';

const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK']));

// User and system time so far, in seconds; NaN for a process that is not ours to see.
function cpuSeconds(pid) {
  try {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().split(' ');
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
  } catch {
    return NaN;
  }
}

// The proportional set size in MB: shared pages count for a share.
function pssMb(pid) {
  try {
    const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return Number(/^Pss:\s+(\d+)/m.exec(text)[1]) / 1024;
  } catch {
    return NaN;
  }
}

// Runs a program to its end; answers with the JSON of its last line.
function runForJson(file, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '', err = '';
    child.stdout.on('data', (d) => { out += d; });
    child.stderr.on('data', (d) => { err += d; });
    child.on('error', reject);
    child.on('close', (code) => {
      const last = out.trim().split('\n').pop();
      if (code !== 0 || !last.startsWith('{')) {
        reject(new Error(`${file} ended with ${code}: ${err.trim() || last}`));
      } else {
        resolve(JSON.parse(last));
      }
    });
  });
}

function median(numbers) {
  const sorted = numbers.filter((x) => !Number.isNaN(x)).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return NaN;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

module.exports = { cpuSeconds, pssMb, runForJson, median, sleep };
