// The legacy façade's panel: the service's mood, the state of its circuit, and what the cache did.

const $ = (id) => document.getElementById(id);

const SERVICE = "old-crm";
const FACADE = "/api/v1/proxy/";
// The ordinary route to the same service: a mood can be changed whatever the circuit says.
const MOOD = "/api/v1/legacy/_mode";

export const isFacade = (url) => url.startsWith(FACADE);

// `send(url, request)` shows a call and gives its answer, or null.
export function setUp(send) {
  let customer = 1000 + Math.floor(Math.random() * 9000);
  $("legacy-call").addEventListener("click", () =>
    send(`${FACADE}${SERVICE}/customers/${customer++}`, { method: "GET", headers: { Accept: "application/json" } }),
  );
  for (const choice of document.querySelectorAll("[name=mood]")) {
    choice.addEventListener("change", async () => {
      const answer = await send(MOOD, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({ mode: choice.value }),
      });
      if (answer?.ok) mood = choice.value;
      else choose(mood);
    });
  }
  document.addEventListener("visibilitychange", askCircuit);
  addEventListener("pageshow", askCircuit);
}

// --- mood ----------------------------------------------------------------------------------

let mood = "ok";

// The mood belongs to the service, not to this page: another login may have changed it.
export async function askMood() {
  const answer = await fetch(MOOD, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  mood = (await answer.json()).mode;
  choose(mood);
}

function choose(value) {
  const choice = document.querySelector(`[name=mood][value="${CSS.escape(value)}"]`);
  if (choice) choice.checked = true;
}

// --- circuit -------------------------------------------------------------------------------

let timer = null;

// A closed or half-open circuit changes by a call only, so after each one; an open one by time.
async function askCircuit() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const answer = await fetch(`${FACADE}health`, { cache: "no-store" });
    const circuit = (await answer.json()).services[SERVICE];
    showCircuit(circuit);
    if (circuit.state === "open") timer = setTimeout(askCircuit, 1000);
  } catch {
    showCircuit({ state: "unknown" });
  }
}

const states = {
  closed: ({ failures }) => (failures ? `closed, ${failures} failed in a row` : "closed: calls go through"),
  open: () => "open: the service is left alone",
  half_open: ({ trial_under_way }) => (trial_under_way ? "half-open: the trial is under way" : "half-open: the next call is the trial"),
  unknown: () => "unknown: the proxy does not answer",
};

function showCircuit(circuit) {
  const text = (states[circuit.state] ?? states.unknown)(circuit);
  $("legacy-circuit").dataset.state = circuit.state;
  // Only a change is written, and the countdown elsewhere: what is written here is read aloud.
  if ($("legacy-state").textContent !== text) $("legacy-state").textContent = text;
  $("legacy-left").textContent = circuit.state === "open" ? `for ${circuit.retry_after} s` : "";
}

// --- cache ---------------------------------------------------------------------------------

const fates = {
  HIT: "the stored answer, the service was not asked",
  STALE: "a stored answer past its time, since the service fails",
  MISS: "the service answered",
  BYPASS: "the cache was not asked",
};

// `X-Cache` and `Age` as they came; empty without them.
export function cacheWord(answer) {
  const names = ["X-Cache", "Age"].filter((name) => answer.headers.has(name));
  return names.map((name) => `${name}: ${answer.headers.get(name)}`).join(" · ");
}

// What became of one answer of the façade.
export function answered(answer) {
  const meaning = fates[answer.headers.get("x-cache")];
  const word = cacheWord(answer);
  $("legacy-cache").textContent = meaning ? `${word} (${meaning})` : word || "nothing said about it";
  // The circuit is told when the answer has ended, which may be a moment after we have it.
  setTimeout(askCircuit, 100);
  setTimeout(askCircuit, 1000);
}

// Whether an answer was kept from an earlier call.
export const isStored = (answer) => ["HIT", "STALE"].includes(answer.headers.get("x-cache"));
