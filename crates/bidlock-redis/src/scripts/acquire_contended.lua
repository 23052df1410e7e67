-- Stands behind acquire.lua: the key is held, or somebody may wait for it.
local held = redis.call('GET', LOCK)
local lease, token, state, client, label = read(held)
if lease == LEASE and state ~= 'r' then -- I8: a repeat, or the confirmation of a window
  local left = math.max(redis.call('PTTL', LOCK), TTL)
  redis.call('SET', LOCK, value(lease, token, 'h', client, label), 'PX', left)
  redis.call('HDEL', PLACES, 'window')
  if redis.call('EXISTS', QUEUE) == 0 then redis.call('DEL', PLACES) end
  return {1, tonumber(token), now()}
end
if held then drop_dead() end
local passed = not held and pass_on(LEASE)
if passed == 'full' then return {3, 'tokens'} end
if not held and passed ~= 'done' then -- I6: nobody who waits can take it before this one
  local granted = grant()
  if granted[1] == 1 then leave(LEASE) end
  return granted
end
held = held or redis.call('GET', LOCK)
local left, wait, anew = redis.call('PTTL', LOCK), tonumber(ARGV[4]), 0
local holder = string.gsub(held, '(%x%x%x%x%x%x%x%x)%x%x%x%x%x%x%x%x#b1;', '%1#b1;', 1)
if lease == LEASE then return {0, holder, left, 0, now(), 0} end -- revoked: nothing to wait for
if wait < 0 then
  leave(LEASE)
  return {0, holder, left, redis.call('ZCARD', QUEUE), now(), 0}
end
if not redis.call('ZSCORE', QUEUE, LEASE) then
  if redis.call('ZCARD', QUEUE) >= 10000 then return {3, 'waiters'} end -- I10
  local last = redis.call('ZREVRANGE', QUEUE, 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', QUEUE, last + 1, LEASE)
  anew = 1
end
local window = digits(math.min(TTL, 3000))
local place = digits(now() + wait * 1000) .. ' ' .. window .. ' ' .. ARGV[5] .. ' ' .. ARGV[6]
redis.call('HSET', PLACES, LEASE, place, '@' .. ARGV[5], digits(now() + PLACE_MS * 1000))
redis.call('PEXPIRE', QUEUE, PLACE_MS)
redis.call('PEXPIRE', PLACES, PLACE_MS)
return {0, holder, left, redis.call('ZRANK', QUEUE, LEASE), now(), anew}
