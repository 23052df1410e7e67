-- Stands behind acquire_contended.lua: the lease takes, or keeps, its place in the queue.
if not redis.call('ZSCORE', QUEUE, LEASE) then
  if redis.call('ZCARD', QUEUE) >= 10000 then return {3, 'waiters'} end -- I10
  local last = redis.call('ZREVRANGE', QUEUE, 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', QUEUE, last + 1, LEASE)
  anew = 1
end
local window, deadline = digits(math.min(TTL, 3000)), digits(micros() + WAIT * 1000)
local alive = digits(micros() + PLACE_MS * 1000)
local place = deadline .. ' ' .. window .. ' ' .. ARGV[4]
redis.call('HSET', PLACES, LEASE, place, '@' .. string.match(ARGV[4], '^%x*'), alive)
redis.call('PEXPIRE', QUEUE, PLACE_MS)
redis.call('PEXPIRE', PLACES, PLACE_MS)
if state == 'h' then -- its release has to look for waiters now
  redis.call('SET', LOCK, lease .. '#b1;' .. token .. ';w;' .. tail, 'KEEPTTL')
end
return {0, holder, left, redis.call('ZRANK', QUEUE, LEASE), now, anew}
