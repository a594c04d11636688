// Drives the demo page as a newcomer does: log in by typing, call each service, read the decoded token,
// log out. Arguments: the page's URL, where to put the screenshots. Needs CHROMIUM, the browser's path.

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
    // The browser itself reports every 4xx answer, which this page asks for on purpose.
    if (message.type() === 'error' && !message.text().includes('the server responded with a status of 4')) {
      complaints.push(message.text());
    }
  });
  await logIn(page);
  await callServices(page);
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
