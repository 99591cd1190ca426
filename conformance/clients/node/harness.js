// Runs scenarios and tells how each went; what is spoken with the suite is described in ../python/harness.py.
'use strict';

const readline = require('node:readline');

const SCENARIO_LIMIT = 90_000;
const scenarios = new Map();
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function scenario(name, method, { fast = false } = {}, play) {
  scenarios.set(name, { method, fast, play });
}

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

// Has the suite kill, start or restart the server.
async function ask(what) {
  tell({ ask: what });
  const answer = await lines.next();
  if (answer.done) throw new Error('the suite is gone');
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

function shown(value) {
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `${part}` : part))?.slice(0, 300);
}

function equal(seen, expected, what) {
  if (shown(seen) !== shown(expected)) {
    throw new Error(`${what}: ${shown(seen)} instead of ${shown(expected)}`);
  }
}

function sure(truth, what) {
  if (!truth) throw new Error(what);
}

// Asks until there is a true answer; a server that is away has none.
async function until(limit, condition, what) {
  const deadline = Date.now() + limit;
  for (;;) {
    const answer = await Promise.resolve().then(condition).catch(() => undefined);
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`within ${limit} ms not: ${what}`);
    await sleep(50);
  }
}

// The error that a call ends with, which has this text in it.
async function raises(promise, text) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    sure(String(error.message ?? error).includes(text), `the error: ${error.name}: ${error.message} instead of ${text}`);
    return error;
  }
  throw new Error(`answered ${shown(answer)} instead of failing`);
}

function within(limit, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${limit} ms`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// What a scenario's client throws on its own time fails the scenario that runs.
let fail = () => {};
process.on('uncaughtException', error => fail(error));
process.on('unhandledRejection', error => fail(error));

async function outcome(play) {
  const thrown = new Promise((_, reject) => {
    fail = reject;
  });
  try {
    await within(SCENARIO_LIMIT, Promise.race([play(), thrown]), 'its end');
    return '';
  } catch (error) {
    const line = /scenarios\.js:(\d+)/.exec(error.stack ?? '')?.[1] ?? '?';
    return `${error.name}: ${error.message} (line ${line})`.slice(0, 600);
  }
}

// `open(name, host)` makes what a scenario is played with, `close` ends it.
async function main(open) {
  const [what, endpoint, ...names] = process.argv.slice(2);
  if (what === 'list') {
    for (const [name, { method, fast }] of scenarios) tell({ scenario: name, method, fast });
    return;
  }
  for (const name of names) {
    const error = await outcome(async () => {
      const scene = await open(name, endpoint);
      try {
        await scenarios.get(name).play(scene);
      } finally {
        scene.close();
      }
    });
    tell({ scenario: name, ok: error === '', error });
  }
  process.exit(0);
}

module.exports = { ask, equal, main, raises, scenario, sleep, sure, until, within };
