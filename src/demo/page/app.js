// The page: asks who is logged in, sends what the buttons say, and shows both sides of the proxy.

import { explain } from "/demo/errors.js";
import { answered, askMood, cacheWord, isFacade, isStored, setUp } from "/demo/facade.js";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const pretty = (value) => JSON.stringify(value, null, 2);

// --- who is here ---------------------------------------------------------------------------

let user = null;

async function askWho() {
  try {
    const answer = await fetch("/auth/session", { headers: { Accept: "application/json" } });
    const session = await answer.json();
    user = session.authenticated ? session.user : null;
    showWho(user ? `${user.name ?? user.sub}` : "Nobody is logged in");
    if (user) askMood().catch(() => {});
  } catch {
    user = null;
    showWho("The proxy does not answer");
  }
}

function showWho(text) {
  $("who").textContent = text;
  $("login").hidden = user !== null;
  $("logout-form").hidden = user === null;
  $("invite").hidden = user !== null;
}

// --- calls ---------------------------------------------------------------------------------

let last = 0;

for (const button of document.querySelectorAll("[data-call]")) {
  button.addEventListener("click", () => call(button));
}

async function call(button) {
  const [method, url] = button.dataset.call.split(" ");
  const request = { method, headers: { Accept: "application/json" } };
  if (button.dataset.body) {
    request.headers["Content-Type"] = "application/json";
    request.body = button.dataset.body;
  }
  if (button.dataset.upload) {
    request.headers["Content-Type"] = "application/octet-stream";
    request.body = new Uint8Array(Number(button.dataset.upload));
  }
  if ("anonymous" in button.dataset) request.credentials = "omit";
  await send(url, request);
}

// Shows both sides of one call. Gives the answer, or null when there was none.
async function send(url, request) {
  const mine = ++last;
  write("sent", describeSent(url, request));
  $("received").textContent = "…";
  $("token").hidden = true;
  $("error").hidden = true;
  $("path-service").textContent = "Service";
  $("path-token").textContent = "Bearer token";
  $("status").textContent = `${request.method} ${url} is under way…`;
  bringIntoView();
  const started = performance.now();
  try {
    const answer = await fetch(url, { redirect: "manual", ...request });
    const text = await answer.text();
    if (isFacade(url)) answered(answer);
    // A later button may have been pressed: then this is not shown any more.
    if (mine === last) show(url, answer, text, Math.round(performance.now() - started));
    return answer;
  } catch {
    if (mine !== last) return null;
    $("status").textContent = "There was no answer at all.";
    $("received").textContent = "nothing";
    showError("No answer", ["The proxy could not be reached.", "Is the command still running in your terminal?"]);
    return null;
  }
}

// On a phone the outcome lies below the buttons.
function bringIntoView() {
  const top = $("outcome").getBoundingClientRect().top;
  if (top > innerHeight * 0.7) $("outcome").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
}

// Lines are [text, class]: plum for the cookie, teal for what the proxy adds, grey for the rest.
function write(id, lines) {
  const spans = lines.map(([text, kind]) => {
    const span = document.createElement("span");
    span.textContent = `${text}\n`;
    if (kind) span.className = kind;
    return span;
  });
  $(id).replaceChildren(...spans);
}

function describeSent(url, request) {
  const lines = [[`${request.method} ${url}`, "first"], [`host: ${location.host}`]];
  if (request.credentials === "omit") lines.push(["(no cookie: it was left out on purpose)", "cookie-line"]);
  else if (user) lines.push(["cookie: bff_session=•••••••• (HttpOnly: not even this page can read it)", "cookie-line"]);
  else lines.push(["(no session cookie: nobody is logged in)", "cookie-line"]);
  lines.push(["(no authorization: the browser never holds a token)", "quiet"]);
  for (const [name, value] of Object.entries(request.headers)) lines.push([`${name.toLowerCase()}: ${value}`, "quiet"]);
  if (typeof request.body === "string") lines.push([""], [request.body]);
  else if (request.body) lines.push([""], [`(${request.body.length.toLocaleString("en")} zero bytes)`]);
  return lines;
}

// --- answers -------------------------------------------------------------------------------

function show(url, answer, text, milliseconds) {
  const body = parse(text);
  const isProblem = (answer.headers.get("content-type") ?? "").startsWith("application/problem+json");
  const cache = isFacade(url) ? cacheWord(answer) : "";
  $("status").textContent = `${answer.status} ${answer.statusText} after ${milliseconds} ms${cache && ` · ${cache}`}`;
  if (isProblem) {
    $("received").textContent = ["upstream_error", "upstream_timeout"].includes(body?.code)
      ? "perhaps something, but it did not answer as it should\n\n" + pretty(body)
      : "nothing: the proxy answered by itself\n\n" + pretty(body);
    showError(`${answer.status} ${body?.code ?? "error"}`, explain(body?.code), body?.detail);
    // A session that ended meanwhile shows at the top as well.
    if (answer.status === 401) askWho();
    return;
  }
  if (body?.method) write("received", [...storedNote(answer), ...describeReceived(body)]);
  else $("received").textContent = body ? pretty(body) : text;
  if (!answer.ok) showError(`${answer.status} from the service`, explain(null));
  if (body?.token) showToken(body, isFacade(url));
  if (body?.service) $("path-service").textContent = `${body.service} service`;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const added = /^(authorization|x-original-user|x-correlation-id|x-forwarded-.*|via|traceparent|tracestate)$/;

function describeReceived(echo) {
  const lines = [[`${echo.method} ${echo.path}${echo.query ? `?${echo.query}` : ""}`, "first"]];
  const line = ([name, value]) => `${name}: ${value}`;
  const fromProxy = echo.headers.filter(([name]) => added.test(name));
  // What proves the change comes first; the order on the wire is in the service's own answer.
  fromProxy.sort(([a], [b]) => (b === "authorization") - (a === "authorization"));
  for (const header of fromProxy) lines.push([line(header), "token-line"]);
  if (!echo.token) lines.push(["(no authorization)", "quiet"]);
  if (!echo.headers.some(([name]) => name === "cookie")) lines.push(["(no cookie: it stayed at the proxy)", "cookie-line"]);
  for (const header of echo.headers) if (!added.test(header[0])) lines.push([line(header), "quiet"]);
  if (echo.body.bytes) lines.push([""], [echo.body.preview]);
  return lines;
}

function storedNote(answer) {
  if (!isStored(answer)) return [];
  return [[`Nothing this time: the answer was stored ${answer.headers.get("age") ?? "some"} s ago, for this request:`, "quiet"], [""]];
}

function showToken({ service, token }, throughFacade) {
  const { header, claims } = token;
  const audience = [claims?.aud ?? "nobody"].flat().join(" ");
  $("token-aud").textContent = audience;
  $("token-sub").textContent = claims?.sub ?? "–";
  $("token-scope").textContent = claims?.scope || "–";
  $("token-left").textContent = claims?.exp ? `${Math.max(0, Math.round(claims.exp - Date.now() / 1000))} s` : "–";
  $("token-header").textContent = pretty(header);
  write("token-claims", pretty(claims).split("\n").map((text) => [text, text.startsWith('  "aud"') ? "marked" : null]));
  const good = token.signature_is_good && (token.audience_fits || throughFacade);
  $("token-verdict").textContent = verdict(service, token, throughFacade);
  $("token-verdict").classList.toggle("bad", !good);
  $("path-token").textContent = audience.replace("https://", "aud ");
  $("token").hidden = false;
}

function verdict(service, token, throughFacade) {
  if (!token.signature_is_good) return "✗ The signature is not the provider's.";
  if (throughFacade) return "✓ Signed by the provider. The façade passes on the login's own token: its audience is the proxy's, as old services have none.";
  if (!token.audience_fits) return `✗ Signed by the provider, but not made for the ${service} service, which expects ${token.expected_audience}.`;
  return `✓ Signed by the provider, and made for the ${service} service and no other.`;
}

function showError(title, [meaning, remedy], detail) {
  $("error-title").textContent = title;
  $("error-meaning").replaceChildren(...withCode(`${meaning} ${remedy}`));
  $("error-detail").textContent = detail ? `The proxy says: ${detail}` : "";
  $("error").hidden = false;
}

// Text in which `words` in backquotes become code elements.
function withCode(text) {
  return text.split("`").map((part, index) => {
    if (index % 2 === 0) return document.createTextNode(part);
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
}

setUp(send);

// --- events --------------------------------------------------------------------------------

let events = null;

$("events-start").addEventListener("click", () => {
  events = new EventSource("/api/v1/analytics/events");
  listening(true, "Waiting for the first…");
  events.addEventListener("tick", ({ data }) => {
    $("events").textContent = `Event ${JSON.parse(data).tick} at ${new Date().toLocaleTimeString()}`;
  });
  events.addEventListener("error", () => {
    // A 401 closes the source for good; a broken stream is tried again by the browser itself.
    if (events?.readyState === EventSource.CLOSED) stopListening("Refused: log in first.");
    else $("events").textContent = "Interrupted; the browser tries again…";
  });
});

$("events-stop").addEventListener("click", () => stopListening("Stopped."));

function stopListening(text) {
  events?.close();
  events = null;
  listening(false, text);
}

function listening(on, text) {
  const [enabled, disabled] = on ? [$("events-stop"), $("events-start")] : [$("events-start"), $("events-stop")];
  enabled.disabled = false;
  // A focused button that is disabled would lose the keyboard's place.
  if (document.activeElement === disabled) enabled.focus();
  disabled.disabled = true;
  $("events").textContent = text;
}

// The back button may show a page from before a login or a logout.
addEventListener("pageshow", askWho);
