// Figures: of processes out of /proc, of a load generator out of its last line.
'use strict';

const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');

const STOP_MS = 10000;
const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK']));

// User and system time so far, in seconds; with that of its children that ended, if wanted. NaN for a
// process that is not ours to see.
function cpuSeconds(pid, withEnded = false) {
  try {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().split(' ');
    return fields.slice(11, withEnded ? 15 : 13).reduce((sum, s) => sum + Number(s), 0) /
      ticksPerSecond;
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

// Runs a program to its end, with a text as its standard input; answers with the JSON of its last
// line.
function runForJson(file, args, env, input = '') {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: { ...process.env, ...env } });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
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

// Starts a program that says where it listens, as {"port": N} in its first line; adds its port to the
// child. Standard error goes to ours.
function startListener(file, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.on('data', (d) => {
      out += d;
      if (child.port || !out.includes('\n')) return;
      child.port = JSON.parse(out).port;
      resolve(child);
    });
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${file} ended with ${code} before it listened`)));
  });
}

async function stopProcess(child) {
  if (!child || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => { child.on('exit', resolve); });
  child.kill('SIGTERM');
  await Promise.race([ended, sleep(STOP_MS)]);
  child.kill('SIGKILL');
}

function median(numbers) {
  const sorted = numbers.filter((x) => !Number.isNaN(x)).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return NaN;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The sides in the order of a round: every second one backwards, as each leaves the machine to the next
// with work that is not done yet (dirty pages, compactions).
const inTurn = (sides, round) => (round % 2 === 1 ? sides : [...sides].reverse());

// Of the rows of one side: of each figure the median.
function medians(rows) {
  const m = {};
  for (const key of Object.keys(rows[0])) {
    if (typeof rows[0][key] === 'number') m[key] = median(rows.map((r) => r[key]));
  }
  return m;
}

// The median of the ratios of neighbours: what slows the machine for a while slows both.
const medianRatio = (xs, ys) => median(xs.map((x, i) => x / ys[i]));

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

module.exports = {
  cpuSeconds, pssMb, runForJson, startListener, stopProcess, inTurn, median, medians, medianRatio,
  sleep,
};
