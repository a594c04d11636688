// A user logs in at the application by typing; then pages of two attackers open in the same browser: one on
// another site, one on another port of the same host (which shares its cookies). Each tries what such pages
// can try. Argument: the application's origin. Environment: CHROMIUM, OURS and EVIL (certificate:key, PEM),
// TRUSTED (fingerprints of the keys that the browser trusts).

import assert from 'node:assert/strict';
import fs from 'node:fs';
import https from 'node:https';
import { chromium } from 'playwright-core';

const [app] = process.argv.slice(2);
const foreign = await serve('127.0.0.1', process.env.EVIL);
const neighbour = await serve('localhost', process.env.OURS);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    `--ignore-certificate-errors-spki-list=${process.env.TRUSTED}`],
});

try {
  const context = await browser.newContext();
  context.setDefaultTimeout(10_000);
  const user = await context.newPage();
  await logIn(user);
  await checkCookie(context, user);
  for (const [who, origin] of [['another site', foreign], ['a neighbour port', neighbour]]) {
    const page = await context.newPage();
    await page.goto(`${origin}/`);
    await postForms(context, page);
    await fetchWithCredentials(page);
    await loadImages(page);
    await frameUs(page);
    await openWindows(context, page);
    await openSocket(page);
    await plantCookies(page);
    await page.close();
    assert.deepEqual(await session(user), { status: 200, sub: 'ada' }, `${who}: the session is as it was`);
    say(`${who}: nothing happened`);
  }
  const mine = await user.evaluate(async () => (await fetch('/api/own/mine', { method: 'POST' })).status);
  assert.equal(mine, 200, 'the user\'s own page still works');
} finally {
  await browser.close();
  process.exitCode ??= 0;
  setTimeout(() => process.exit(), 100).unref();
}
process.exit();

/** An attacker's web server: one empty page. */
async function serve(host, files) {
  const [cert, key] = files.split(':').map((file) => fs.readFileSync(file));
  const server = https.createServer({ cert, key }, (_request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><title>attacker</title><body></body>');
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return `https://${host}:${server.address().port}`;
}

async function logIn(page) {
  await page.goto(`${app}/auth/login?return_to=/api/own/mine`);
  await page.locator('input[name=login]').fill('ada');
  await page.locator('input[name=password]').fill('anything');
  await page.locator('[type=submit]').click();
  await page.waitForFunction(() => document.querySelector('input[name=prompt][value=consent]'));
  await page.locator('[type=submit]').click();
  await page.waitForURL(`${app}/api/own/mine`);
  assert.deepEqual(await session(page), { status: 200, sub: 'ada' });
  say('logged in by typing, over TLS');
}

async function session(page) {
  return page.evaluate(async () => {
    const answer = await fetch('/auth/session');
    const body = await answer.json();
    return { status: answer.status, sub: body.user?.sub };
  });
}

async function checkCookie(context, page) {
  const cookies = (await context.cookies(app)).filter((cookie) => cookie.name.includes('bff'));
  assert.equal(cookies.length, 1, JSON.stringify(cookies.map((cookie) => cookie.name)));
  const [cookie] = cookies;
  assert.equal(cookie.name, '__Host-Http-bff_session');
  assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path], [true, true, 'Lax', '/']);
  assert.equal(cookie.domain, 'localhost', 'for this host alone');
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script sees it');
  say('the cookie is bound to host, TLS and HTTP');
}

/** Forms that post themselves into a new window. */
async function postForms(context, page) {
  for (const path of ['/auth/logout', '/auth/logout?everywhere=true', '/api/own/evil-form', '/auth/backchannel-logout']) {
    const opened = context.waitForEvent('page');
    await page.evaluate((action) => {
      const form = document.createElement('form');
      Object.assign(form, { action, method: 'POST', target: '_blank' });
      document.body.append(form);
      form.submit();
    }, app + path);
    const answer = await opened;
    await answer.waitForLoadState();
    assert.match(await answer.locator('body').innerText(), /csrf_failed|invalid_request|not_authenticated/, path);
    await answer.close();
  }
}

async function fetchWithCredentials(page) {
  const read = await page.evaluate(async (origin) => {
    const tries = [
      ['/auth/session', { credentials: 'include' }],
      ['/api/own/mine', { credentials: 'include' }],
      ['/api/own/evil-json', { credentials: 'include', method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }],
      ['/api/own/evil-put', { credentials: 'include', method: 'PUT' }],
      ['/api/own/evil-header', { credentials: 'include', headers: { 'x-original-user': 'root' } }],
    ];
    const results = [];
    for (const [path, options] of tries) {
      results.push(await fetch(origin + path, options).then((answer) => `read ${path}: ${answer.status}`, () => null));
    }
    // Sent without being readable: the only kind that a server has to refuse by itself.
    for (const path of ['/auth/logout', '/api/own/evil-simple']) {
      await fetch(origin + path, { credentials: 'include', mode: 'no-cors', method: 'POST', body: 'a=b' }).catch(() => null);
      await fetch(`${origin}/auth/logout`, { credentials: 'include', mode: 'no-cors' }).catch(() => null);
    }
    return results.filter(Boolean);
  }, app);
  assert.deepEqual(read, [], 'nothing can be read');
}

async function loadImages(page) {
  await page.evaluate((origin) => Promise.all(['img', 'script', 'link'].map((kind) => new Promise((done) => {
    const element = document.createElement(kind);
    element.onload = element.onerror = done;
    if (kind === 'link') element.rel = 'stylesheet';
    element[kind === 'link' ? 'href' : 'src'] = `${origin}/auth/logout`;
    document.body.append(element);
  }))), app);
}

async function frameUs(page) {
  await page.evaluate((src) => new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.onload = done;
    frame.src = src;
    document.body.append(frame);
  }), `${app}/auth/callback?code=a&code=b`);
  const frame = page.frames().at(-1);
  // The frame has loaded before the driver hears where it is.
  const until = Date.now() + 10_000;
  while (!/^(chrome-error|https):/.test(frame.url()) && Date.now() < until) await page.waitForTimeout(50);
  assert.match(frame.url(), /^chrome-error:/, 'our pages are not framed');
}

/** Navigations with cookies: a logout by link, and the end of a login that the attacker began. */
async function openWindows(context, page) {
  for (const path of ['/auth/logout', '/auth/callback?code=evil&state=evil-state-of-the-attacker']) {
    const opened = context.waitForEvent('page');
    await page.evaluate((url) => { window.open(url); }, app + path);
    const answer = await opened;
    await answer.waitForLoadState();
    await answer.close();
  }
}

async function openSocket(page) {
  const ended = await page.evaluate((url) => new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onopen = () => done('open');
    socket.onerror = () => done('refused');
  }), `${app.replace('https', 'wss')}/api/own/evil-socket`);
  assert.equal(ended, 'refused');
}

/** A neighbour on the same host may write cookies for it, but not one of this name. */
async function plantCookies(page) {
  const left = await page.evaluate(() => {
    for (const attributes of ['Path=/; Secure', 'Path=/api; Secure', 'Path=/; Secure; Domain=localhost', '']) {
      document.cookie = `__Host-Http-bff_session=planted; ${attributes}`;
      document.cookie = `=__Host-Http-bff_session=planted; ${attributes}`;
    }
    return document.cookie;
  });
  assert.doesNotMatch(left, /planted/);
}

function say(line) {
  console.log(`attacker: ${line}`);
}
