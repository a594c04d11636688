// A strict, certified OpenID provider for the end-to-end suite: PKCE required, refresh tokens that
// rotate, JWT access tokens for one audience each. It listens on 127.0.0.1 port 0 and prints one line
// of JSON when it is ready: {"issuer","control"}. It ends when its standard input does, so that it
// never outlives the tests.
//
// Environment: AUDIENCES (comma separated), ACCESS_TTL (seconds, default 300), RESOURCE_SCOPES, and for
// use by hand CLIENT_ID, CLIENT_SECRET, REDIRECT_URIS, POST_LOGOUT_REDIRECT_URIS.
//
// Control port, JSON in and out:
//   POST /clients  client metadata; `access_ttl` and `access_age` (seconds) are ours
//   POST /mode     {"client": ID or "*", "token": "ok"|"500"|"hang"|"reset"|"html"|"delay:MS"|"late:MS"}
//                 (`delay` waits before it looks at the request, `late` does what is asked and answers later)
//   GET  /counters?client=ID  granted token requests by grant type, and `refused`, `faulted`, `revoked`
//   GET  /refresh-tokens?client=ID   the live ones;  DELETE forgets them
//   POST /reset    counters and modes

import http from 'node:http';
import { Provider, errors } from 'oidc-provider';
import { MapAdapter, forgetRefreshTokens, refreshTokens } from './adapter.mjs';

const list = (text) => (text ?? '').split(',').map((part) => part.trim()).filter(Boolean);
const env = process.env;
const audiences = new Set(list(env.AUDIENCES ?? ['edge', 'analytics', 'crud', 'reports']
  .map((name) => `https://${name}.example.test`).join(',')));
const resourceScopes = env.RESOURCE_SCOPES ?? 'application.all read write';
const defaultTtl = Number(env.ACCESS_TTL ?? 300);

const counters = new Map();
const modes = new Map();

function count(client, what) {
  const key = client ?? '*';
  if (!counters.has(key)) counters.set(key, {});
  const row = counters.get(key);
  row[what] = (row[what] ?? 0) + 1;
}

function staticClients() {
  if (!env.CLIENT_ID) return [];
  return [{
    client_id: env.CLIENT_ID,
    client_secret: env.CLIENT_SECRET,
    redirect_uris: list(env.REDIRECT_URIS),
    post_logout_redirect_uris: list(env.POST_LOGOUT_REDIRECT_URIS),
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  }];
}

function resourceServer(_ctx, indicator, client) {
  if (!audiences.has(indicator)) throw new errors.InvalidTarget();
  return {
    scope: resourceScopes,
    audience: indicator,
    accessTokenFormat: 'jwt',
    accessTokenTTL: client.access_ttl ?? defaultTtl,
    jwt: { sign: { alg: 'RS256' } },
  };
}

/** Moves a JWT into the past, as if it had been minted `access_age` seconds ago. */
function aged(_ctx, token, { payload }) {
  const age = token.client?.access_age ?? 0;
  payload.iat -= age;
  payload.exp -= age;
}

const configuration = {
  adapter: MapAdapter,
  clients: staticClients(),
  cookies: { keys: ['only', 'for', 'tests'] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
  conformIdTokenClaims: false,
  clientBasedCORS: () => false,
  extraClientMetadata: { properties: ['access_ttl', 'access_age'] },
  formats: { customizers: { jwt: aged } },
  ttl: {
    AccessToken: (_ctx, _token, client) => client.access_ttl ?? defaultTtl,
    ClientCredentials: (_ctx, _token, client) => client.access_ttl ?? defaultTtl,
    AuthorizationCode: 60,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 600,
    RefreshToken: 86400,
    Session: 86400,
  },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer, useGrantedResource: () => false },
  },
  // The library refuses calls to loopback, where back-channel logout has to go in a test.
  fetch: (url, { dispatcher: _guard, ...options }) => globalThis.fetch(url, options),
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({
      sub: id, name: `Name of ${id}`, preferred_username: id, email: `${id}@example.test`, email_verified: true,
    }),
  }),
};

function watch(provider) {
  provider.on('grant.success', (ctx) => count(ctx.oidc.client?.clientId, ctx.oidc.params.grant_type));
  provider.on('grant.error', (ctx, error) => {
    count(ctx.oidc.client?.clientId, 'refused');
    process.stderr.write(`grant refused: ${error.message}: ${error.error_detail ?? error.error_description}\n`);
  });
  provider.on('authorization.error', (_ctx, error) => process.stderr.write(
    `authorization refused: ${error.message}: ${error.error_detail ?? error.error_description}\n`,
  ));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route === 'revocation' && ctx.status === 200) count(ctx.oidc.client?.clientId, 'revoked');
  });
}

/** The client named by HTTP Basic; other methods only know the mode of "*". */
function clientOf(request) {
  const [scheme, value] = (request.headers.authorization ?? '').split(' ');
  if (scheme.toLowerCase() !== 'basic' || value === undefined) return '*';
  return decodeURIComponent(Buffer.from(value, 'base64').toString().split(':')[0]);
}

/** Answers in the provider's place where a mode says so; true when the request may go on. */
function misbehave(request, response) {
  if (!request.url.startsWith('/token') || request.url.startsWith('/token/')) return Promise.resolve(true);
  const client = clientOf(request);
  const mode = modes.get(client) ?? modes.get('*') ?? 'ok';
  if (mode === 'ok') return Promise.resolve(true);
  if (mode.startsWith('delay:')) return new Promise((go) => { setTimeout(() => go(true), Number(mode.slice(6))); });
  if (mode.startsWith('late:')) {
    const end = response.end.bind(response);
    response.end = (...last) => { setTimeout(() => end(...last), Number(mode.slice(5))); return response; };
    return Promise.resolve(true);
  }
  count(client, 'faulted');
  if (mode === 'reset') request.socket.resetAndDestroy();
  else if (mode === 'html') response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Maintenance</h1>');
  else if (mode !== 'hang') response.writeHead(Number(mode)).end();
  return Promise.resolve(false);
}

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return text === '' ? {} : JSON.parse(text);
}

async function control(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://control');
  const client = searchParams.get('client');
  const answer = (value, status = 200) => response
    .writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  switch (`${request.method} ${pathname}`) {
    case 'POST /clients': {
      const metadata = await body(request);
      await new MapAdapter('Client').upsert(metadata.client_id, metadata);
      return answer({});
    }
    case 'POST /mode': {
      const wanted = await body(request);
      modes.set(wanted.client ?? '*', wanted.token);
      return answer({});
    }
    case 'GET /counters':
      return answer(client === null ? Object.fromEntries(counters) : counters.get(client) ?? {});
    case 'GET /refresh-tokens':
      return answer(refreshTokens(client));
    case 'DELETE /refresh-tokens':
      forgetRefreshTokens(client);
      return answer({});
    case 'POST /reset':
      counters.clear();
      modes.clear();
      return answer({});
    default:
      return answer({ error: 'no such control' }, 404);
  }
}

function listen(handler) {
  const server = http.createServer(handler);
  return new Promise((ready) => {
    server.listen(0, '127.0.0.1', () => ready(server));
  });
}

let serve;
const front = await listen((request, response) => serve(request, response));
const issuer = `http://127.0.0.1:${front.address().port}`;
const provider = new Provider(issuer, configuration);
watch(provider);
const callback = provider.callback();
serve = (request, response) => misbehave(request, response)
  .then((goOn) => goOn && callback(request, response));
const side = await listen((request, response) => control(request, response)
  .catch((error) => response.writeHead(500).end(String(error))));

// Nobody reads on after the first line, and the library's notices must not end us by a broken pipe.
process.stdout.on('error', () => {});
process.stdin.on('end', () => process.exit(0)).resume();
console.log(JSON.stringify({ issuer, control: `http://127.0.0.1:${side.address().port}` }));
