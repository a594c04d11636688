// Drives the demo page as a newcomer does: log in by typing, call each service, read the decoded token,
// break the legacy service until its circuit opens, log out. Arguments: the page's URL, where to put the screenshots. Needs CHROMIUM, the browser's path.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const [url, shots] = process.argv.slice(2);
const USER = 'ada';
const complaints = [];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
});

try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  page.setDefaultTimeout(10_000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // The browser itself reports every 4xx and 5xx answer, which this page asks for on purpose.
    if (message.type() === 'error' && !/the server responded with a status of [45]/.test(message.text())) {
      complaints.push(message.text());
    }
  });
  await logIn(page);
  await callServices(page);
  await seeRefusals(page);
  await breakAndHeal(page);
  await askTwice(page);
  await breakWhatIsStored(page);
  await lookOnAPhone(page);
  await logOut(page);
  assert.deepEqual(complaints, [], 'the page complained in the console');
} finally {
  await browser.close();
}

async function logIn(page) {
  await page.goto(url);
  await page.locator('#login').click();
  const name = page.locator('input:not([type=hidden]):not([type=password]):not([type=submit]):not([type=radio])').first();
  await name.fill(USER);
  const password = page.locator('input[type=password]');
  if (await password.count() > 0) await password.first().fill('anything');
  await name.press('Enter');
  await page.waitForURL((now) => now.origin === new URL(url).origin);
  await hasText(page, '#who', USER);
  const cookies = await ourCookies(page);
  assert.equal(cookies.length, 1, `one cookie: ${cookies.map((cookie) => cookie.name)}`);
  assert.equal(cookies[0].httpOnly, true);
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script sees a cookie');
  say('logged in by typing');
}

async function callServices(page) {
  const audiences = new Set();
  for (const service of ['analytics', 'crud']) {
    await page.locator(`#call-${service}`).click();
    await hasText(page, '#token-aud', service);
    const audience = (await page.locator('#token-aud').innerText()).trim();
    audiences.add(audience);
    assert.match(await page.locator('#received').innerText(), /authorization/i);
    assert.doesNotMatch(await page.locator('#sent').innerText(), /bearer/i, 'the browser holds no token');
    say(`${service} received a token for ${audience}`);
  }
  assert.equal(audiences.size, 2, 'a different audience for each');
  await page.screenshot({ path: `${shots}/demo-page.png`, fullPage: true });
  await page.locator('#call-legacy').click();
  await hasText(page, '#sent', 'legacy');
  await hasText(page, '#received', 'authorization');
  assert.equal(await page.locator('#error').isVisible(), false);
  say('the legacy service answered');
}

async function seeRefusals(page) {
  for (const [button, title] of [
    ['#call-anonymous', '401 not_authenticated'],
    ['#call-nowhere', '404 no_route'],
    ['#call-unknown-service', '404 unknown_service'],
    ['#call-too-large', '413 body_too_large'],
  ]) {
    await press(page, button, title.slice(0, 3));
    assert.equal(await page.locator('#error-title').innerText(), title);
    assert.match(await page.locator('#error-meaning').innerText(), /\.\s+\S.*\./, 'a meaning and a remedy');
    say(`${button} says ${title}`);
  }
}

/** Three failures open the circuit; the first call after its rest closes it. */
async function breakAndHeal(page) {
  await press(page, '#legacy-call', '200');
  await hasText(page, '#received', 'authorization');
  await circuitIs(page, 'closed');
  await press(page, '#legacy-broken', '200');
  for (let call = 0; call < 3; call++) await press(page, '#legacy-call', '500');
  await circuitIs(page, 'open');
  assert.match(await page.locator('#legacy-state').innerText(), /^open/);
  await press(page, '#legacy-call', '503');
  assert.equal(await page.locator('#error-title').innerText(), '503 circuit_open');
  await page.screenshot({ path: `${shots}/demo-page-circuit.png`, fullPage: true });
  say('three failures opened the circuit');
  await press(page, '#legacy-ok', '200');
  await circuitIs(page, 'half_open');
  await press(page, '#legacy-call', '200');
  await circuitIs(page, 'closed');
  say('the trial closed it again');
}

async function askTwice(page) {
  await press(page, '#legacy-again', '200');
  await press(page, '#legacy-again', '200');
  const told = await page.locator('#legacy-cache').innerText();
  assert.match(told, /^X-Cache: HIT · Age: \d+/);
  say(`the second answer's cache: ${told}`);
}

/** What is stored goes on being served when its time is over and the service fails. */
async function breakWhatIsStored(page) {
  await press(page, '#legacy-broken', '200');
  let told = '';
  for (let waited = 0; !told.startsWith('X-Cache: STALE'); waited++) {
    assert.ok(waited < 60, `never stale: ${told}`);
    await page.waitForTimeout(250);
    await press(page, '#legacy-again', '200');
    told = await page.locator('#legacy-cache').innerText();
  }
  say(`the service is broken: ${told}`);
  await press(page, '#legacy-ok', '200');
}

/** Presses a button, and waits until the page shows an answer of this status. */
async function press(page, button, status) {
  // What was shown before must not be taken for the answer to this call.
  await page.evaluate(() => { document.querySelector('#status').textContent = ''; });
  await page.locator(button).click();
  await page.waitForFunction((wanted) => document.querySelector('#status').textContent.startsWith(wanted), status);
}

async function circuitIs(page, state) {
  await page.locator(`#legacy-circuit[data-state=${state}]`).waitFor({ timeout: 15_000 });
}

async function lookOnAPhone(page) {
  await page.setViewportSize({ width: 360, height: 800 });
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wider <= 0, `the page is ${wider} px wider than a phone`);
  await page.screenshot({ path: `${shots}/demo-page-phone.png`, fullPage: true });
  await page.setViewportSize({ width: 1200, height: 900 });
  say('it fits a phone');
}

async function logOut(page) {
  await page.locator('#logout').click();
  await page.waitForURL((now) => now.origin === new URL(url).origin);
  await page.locator('#login').waitFor({ state: 'visible' });
  assert.deepEqual(await ourCookies(page), [], 'the cookie is gone');
  const status = await page.evaluate(async () => (await fetch('/auth/session')).status);
  assert.equal(status, 401);
  await page.locator('#call-analytics').click();
  await page.waitForFunction(() => document.querySelector('#error')?.innerText.trim() !== '');
  assert.equal(await page.locator('#error').isVisible(), true);
  say(`logged out; a call now says: ${(await page.locator('#error').innerText()).split('\n')[0]}`);
}

/** Cookies do not know ports: the provider's, on the same host, are not ours. */
async function ourCookies(page) {
  return (await page.context().cookies(url)).filter((cookie) => cookie.name.includes('bff'));
}

async function hasText(page, selector, text) {
  await page.waitForFunction(
    ([where, what]) => document.querySelector(where)?.innerText.toLowerCase().includes(what),
    [selector, text.toLowerCase()],
  );
}

function say(line) {
  console.log(`page: ${line}`);
}
