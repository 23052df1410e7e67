-- Stands behind acquire.lua: the key is held, or somebody may wait for it.
local LEASE, TTL, WAIT = string.sub(ARGV[1], 1, -5), tonumber(ARGV[2]), tonumber(ARGV[5])
local function waited() return redis.call('EXISTS', QUEUE) == 1 and ';w;' or ';h;' end
local held = redis.call('GET', LOCK)
local lease, token, state, tail = read(held)
if lease == LEASE and state ~= 'r' then -- I8: a repeat, or the confirmation of a window
  local left = math.max(redis.call('PTTL', LOCK), TTL)
  redis.call('PEXPIRE', LOCK, left) -- first: it works when memory is short
  redis.call('SET', LOCK, ARGV[1] .. token .. waited() .. tail, 'PX', left)
  redis.call('HDEL', PLACES, 'window')
  if redis.call('EXISTS', QUEUE) == 0 then redis.call('DEL', PLACES) end
  return {1, token, now}
end
if not held then drop_silent() end
local passed = not held and pass_on(LEASE)
if not held and passed ~= 'done' then -- I6: nobody who waits can take it before this one
  local number = passed ~= 'full' and next_token()
  if not number then return {3, 'tokens'} end
  leave(LEASE)
  if redis.call('EXISTS', QUEUE) == 0 then redis.call('DEL', PLACES) end
  redis.call('SET', LOCK, ARGV[1] .. digits(number) .. waited() .. ARGV[4], 'PX', TTL)
  return {1, number, now}
end
held = held or redis.call('GET', LOCK)
local left = redis.call('PTTL', LOCK)
local holder = string.gsub(held, '(%x%x%x%x%x%x%x%x)%x%x%x%x%x%x%x%x#b1;', '%1#b1;', 1)
if lease == LEASE then return {0, holder, left, 0, now, 0} end -- revoked: nothing to wait for
if not WAIT then
  leave(LEASE)
  return {0, holder, left, redis.call('ZCARD', QUEUE), now, 0}
end
