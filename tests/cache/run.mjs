// Runs the public HTTP cache tests against BASE as the user of COOKIE. Prints one line of JSON:
// {"required":{"pass":n,"fail":n,"other":n},"optimal":…,"check":…,"failed":{id:reason,…}}.
// With ONLY=id it runs that test and prints what was sent and received.

import fetch from 'node-fetch';
import { runTests, getResults } from 'http-cache-tests/client/runner.mjs';
import { makeCacheTest, testResults } from 'http-cache-tests/client/test.mjs';
import suites from 'http-cache-tests/tests/index.mjs';

const { BASE, COOKIE, ONLY } = process.env;

/** The test's own request, sent by a user who is logged in. */
function asUser(url, init = {}) {
  const headers = [...(init.headers ?? [])];
  const own = headers.find(([name]) => name.toLowerCase() === 'cookie');
  const rest = headers.filter((header) => header !== own);
  rest.push(['Cookie', own ? `${own[1]}; ${COOKIE}` : COOKIE]);
  return fetch(url, { ...init, headers: rest });
}

/**
 * What this edition wants differently from RFC 9111, which came after it. An `Age` that is no number is ignored,
 * and of a list the first member counts (§5.1); a parameter makes it no number. An error that the cache says
 * itself is not a stored answer: it does not carry the origin's count.
 */
const FRESH = ['nonnumeric', 'negative', 'float', 'prefix-twoline', 'dup-0', 'dup-0-twoline', 'dup-old', 'parameter',
  'numeric-parameter'].map((name) => `age-parse-${name}`);
const REFUSED = ['must-revalidate', 'proxy-revalidate', 'no-cache', 's-maxage=2'].map((name) => `stale-close-${name}`);

for (const test of suites.flatMap((suite) => suite.tests)) {
  const last = test.requests.at(-1);
  if (FRESH.includes(test.id)) last.expected_type = 'cached';
  if (REFUSED.includes(test.id)) {
    delete last.expected_type;
    Object.assign(last, { expected_status: 502, check_body: false, expected_response_headers_missing: ['server-request-count'] });
  }
}

const tests = new Map(suites.flatMap((suite) => suite.tests).map((test) => [test.id, test]));
if (ONLY) tests.get(ONLY).dump = true;
const chosen = ONLY ? [{ name: ONLY, id: ONLY, tests: [tests.get(ONLY)] }] : suites;
await runTests(chosen, asUser, false, BASE, 25);

let results = getResults();

/** pass, fail, or other: its setup or what it depends on did not hold, so it says nothing. */
function verdict(id) {
  const [result, test] = [results[id], tests.get(id)];
  if (result === undefined) return undefined;
  if ((test.depends_on ?? []).some((other) => verdict(other) !== 'pass')) return 'other';
  if (result === true) return 'pass';
  return result[0] === 'Setup' ? 'other' : 'fail';
}

// Many of them count seconds, 25 at once: on a busy machine an answer is stale before it is asked for. What
// failed is asked once more, alone; what is really wrong fails again.
const failed = [...tests].filter(([id, test]) => test.kind !== 'check' && (results[id] ?? true) !== true);
if (!ONLY) {
  for (const [id, test] of failed) {
    delete testResults[id];
    await makeCacheTest(test);
  }
  results = getResults();
}

const summary = { failed: {}, other: {} };
for (const [id, test] of tests) {
  const found = verdict(id);
  if (!found) continue;
  const kind = test.kind ?? 'required';
  summary[kind] ??= { pass: 0, fail: 0, other: 0 };
  summary[kind][found] += 1;
  if (found === 'fail' && kind !== 'check') summary.failed[id] = `${kind}: ${results[id][1]}`;
  if (found === 'other' && kind === 'required') summary.other[id] = String(results[id] === true || results[id][1]);
}
console.log(JSON.stringify(summary));
