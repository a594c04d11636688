// Where the provider keeps its records: a plain Map. The library's own memory adapter is an LRU of
// 1 000 records, some 150 logins, which a load test would push out.

const records = new Map();
const grantable = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

/** Live refresh tokens of one client. */
export function refreshTokens(clientId) {
  return [...records.values()]
    .filter((r) => r.model === 'RefreshToken' && r.payload.clientId === clientId && !r.payload.consumed && alive(r))
    .map((r) => r.payload.jti);
}

/** Forgets every refresh token of one client, as an administrator's "sign out everywhere" does. */
export function forgetRefreshTokens(clientId) {
  for (const [key, r] of records) {
    if (r.model === 'RefreshToken' && r.payload.clientId === clientId) records.delete(key);
  }
}

const alive = (record) => record.expiresAt === undefined || record.expiresAt > Date.now();

export class MapAdapter {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const expiresAt = typeof expiresIn === 'number' ? Date.now() + expiresIn * 1000 : undefined;
    records.set(this.key(id), { model: this.model, payload, expiresAt });
  }

  async find(id) {
    const record = records.get(this.key(id));
    if (record === undefined || !alive(record)) return undefined;
    return record.payload;
  }

  async findByUid(uid) {
    for (const record of records.values()) {
      if (record.model === this.model && record.payload.uid === uid && alive(record)) return record.payload;
    }
    return undefined;
  }

  async findByUserCode() {
    return undefined;
  }

  async consume(id) {
    const record = records.get(this.key(id));
    if (record !== undefined) record.payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    records.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, record] of records) {
      if (grantable.has(record.model) && record.payload.grantId === grantId) records.delete(key);
    }
  }
}
