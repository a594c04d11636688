//! What Redis does in one step. Each script touches one key, or two with one hash tag, and answers
//! with the number of its question first: an answer to another question is so never taken for ours.
//!
//! A Redis that is full refuses the first write of a script if that may need memory, and none after a write that needs
//! none (redis.io: scripting with Lua, in low memory conditions; in every version, where `allow-oom` is of Redis 7). What
//! keeps those logged in who are so, and sweeps, begins with such a write, which changes nothing. Logins do not.

/// The record, and its place among others of the person; nil where a field is not there.
pub(super) const LOAD: &str = "
return {ARGV[1], redis.call('HMGET', KEYS[1], 'v', 'iss', 'sub', 'sid', 'c', 'x', 'e', 'd', 'o')}";

/// ARGV: px, then the record as `LOAD` gives it. 0: the key is taken by another record. Asked again
/// after a lost answer, it finds its own. Its place is the server's time in microseconds: seconds would not tell the
/// logins of one moment apart.
pub(super) const INSERT: &str = "
local there = redis.call('HMGET', KEYS[1], 'd', 'sub')
if there[1] then return {ARGV[1], (there[1] == ARGV[10] and there[2] == ARGV[5]) and 1 or 0} end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'v', ARGV[3], 'iss', ARGV[4], 'sub', ARGV[5], 'sid', ARGV[6],
  'c', ARGV[7], 'x', ARGV[8], 'e', ARGV[9], 'd', ARGV[10], 'o', string.format('%.0f', time[1] * 1000000 + time[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {ARGV[1], 1}";

/// ARGV: expected version, channel, message, then the record without its sliding end. The time to
/// live stays. -1: gone, 0: another version is there. Asked again after a lost answer, it finds its own.
pub(super) const SAVE: &str = "
local there = redis.call('HMGET', KEYS[1], 'v', 'd')
if not there[1] then return {ARGV[1], -1} end
if there[1] == ARGV[5] and there[2] == ARGV[11] then return {ARGV[1], 1} end
if there[1] ~= ARGV[2] then return {ARGV[1], 0} end
redis.call('HDEL', KEYS[1], 'none')
redis.call('HSET', KEYS[1], 'v', ARGV[5], 'iss', ARGV[6], 'sub', ARGV[7], 'sid', ARGV[8],
  'c', ARGV[9], 'e', ARGV[10], 'd', ARGV[11])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return {ARGV[1], 1}";

/// ARGV: the new end. The time to live moves by as much as the end does.
pub(super) const TOUCH: &str = "
local there = redis.call('HMGET', KEYS[1], 'x', 'e')
if not there[1] then return {ARGV[1], 0} end
local old = tonumber(there[1])
local new = math.min(tonumber(there[2]), math.max(old, tonumber(ARGV[2])))
if new > old then
  redis.call('HDEL', KEYS[1], 'none')
  redis.call('HSET', KEYS[1], 'x', string.format('%.0f', new))
  local left = redis.call('PTTL', KEYS[1])
  if left > 0 then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left + (new - old) * 1000)) end
end
return {ARGV[1], 1}";

/// ARGV: channel, message. The record as `LOAD` gives it. Told also where nothing was there: a replica may still hold what
/// Redis lost.
pub(super) const DELETE: &str = "
local there = redis.call('HMGET', KEYS[1], 'v', 'iss', 'sub', 'sid', 'c', 'x', 'e', 'd', 'o')
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {ARGV[1], there}";

/// ARGV: now. The end of what is not over and stays, else nil.
pub(super) const EXPIRE: &str = "
local ends = redis.call('HGET', KEYS[1], 'x')
if ends and tonumber(ends) > tonumber(ARGV[2]) then return {ARGV[1], ends} end
redis.call('DEL', KEYS[1])
return {ARGV[1], false}";

/// ARGV: score, member, px, and the score below which members are forgotten, or the empty string.
pub(super) const INDEX: &str = "
if ARGV[5] ~= '' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[5]) end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return {ARGV[1], 1}";

/// ARGV: member.
pub(super) const FORGET: &str = "return {ARGV[1], redis.call('ZREM', KEYS[1], ARGV[2])}";

/// ARGV: score, member, of a member that is still there.
pub(super) const RESCORE: &str = "
redis.call('ZREM', KEYS[1], 'none')
return {ARGV[1], redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[3])}";

/// ARGV: lowest score, highest score, how many.
pub(super) const RANGE: &str =
    "return {ARGV[1], redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])}";

/// ARGV: lowest score.
pub(super) const COUNT: &str = "return {ARGV[1], redis.call('ZCOUNT', KEYS[1], ARGV[2], '+inf')}";

/// ARGV: px, `END:value`, now. 0: another one is there. Asked again after a lost answer, it finds its own.
pub(super) const PUT_NOTE: &str = "
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[3] and tonumber(string.match(there, '^(-?%d+):')) > tonumber(ARGV[4]) then
  return {ARGV[1], 0}
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return {ARGV[1], 1}";

/// `END:value`, once.
pub(super) const TAKE_NOTE: &str = "
local there = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return {ARGV[1], there}";

/// ARGV: px, `END:value`.
pub(super) const SET_NOTE: &str = "
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return {ARGV[1], 1}";

/// `END:value`; it stays.
pub(super) const READ_NOTE: &str = "return {ARGV[1], redis.call('GET', KEYS[1])}";

/// KEYS: lease, fence. ARGV: holder, px, px of the fence. The number is at least the server's time in
/// microseconds, so that it grows even where the last one was forgotten.
pub(super) const LEASE: &str = "
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[2] then return {ARGV[1], false} end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])
return {ARGV[1], fence}";

/// ARGV: holder.
pub(super) const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[2] then redis.call('DEL', KEYS[1]) end
return {ARGV[1], 1}";

/// A sliding window: a hash of what each part of the time saw, and when the last of it came. ARGV: requests,
/// microseconds of a part and of the window, px. Answers whether one more is welcome, how many are left,
/// and the microseconds until the oldest part leaves.
pub(super) const WINDOW: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local part, period = tonumber(ARGV[3]), tonumber(ARGV[4])
local this = string.format('%.0f', math.floor(now / part))
local all, sum, here, mine, oldest = redis.call('HGETALL', KEYS[1]), 0, 0, now, now
for at = 1, #all, 2 do
  local seen, last = string.match(all[at + 1], '^(%d+) (%d+)$')
  if not last or last + period <= now then
    redis.call('HDEL', KEYS[1], all[at])
  else
    sum = sum + seen
    if all[at] == this then here, mine = seen, tonumber(last) else oldest = math.min(oldest, last) end
  end
end
local left = ARGV[2] - sum
if left <= 0 then return {ARGV[1], 0, 0, math.min(oldest, mine) + period - now} end
redis.call('HSET', KEYS[1], this, string.format('%.0f %.0f', here + 1, now))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {ARGV[1], 1, left - 1, oldest + period - now}";

/// A bucket: when it will be full again. ARGV: how many it holds, microseconds in which it gains one.
/// Answers as `WINDOW`; the microseconds are those until the next one is welcome, or until it is full.
pub(super) const BUCKET: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[3])
local depth = interval * tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + interval
if full - now > depth then return {ARGV[1], 0, 0, full - now - depth} end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', string.format('%.0f', math.ceil((full - now) / 1000) + 1))
return {ARGV[1], 1, math.floor((depth - (full - now)) / interval), full - now}";
