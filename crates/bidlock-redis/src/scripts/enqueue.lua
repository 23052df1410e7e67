-- Stands behind acquire_contended.lua: the lease takes, or keeps, its place in the queue, from
-- whose front the dead are dropped.
local front = waiters(0, 0)[1]
while front and not front[4] and front[1] ~= LEASE do
  leave(front[1])
  front = waiters(0, 0)[1]
end
local known = redis.call('ZSCORE', QUEUE, LEASE)
if not known and redis.call('ZCARD', QUEUE) >= 10000 then return {3, 'waiters'} end -- I10
local window, deadline = digits(math.min(TTL, 3000)), digits(micros() + WAIT * 1000)
local alive = digits(micros() + PLACE_MS * 1000)
local place = deadline .. ' ' .. window .. ' ' .. ARGV[4]
redis.call('HSET', PLACES, LEASE, place, '@' .. string.match(ARGV[4], '^%x*'), alive)
redis.call('PEXPIRE', PLACES, PLACE_MS)
if not known then
  local last = redis.call('ZREVRANGE', QUEUE, 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', QUEUE, last + 1, LEASE)
  redis.call('HDEL', PLACES, 'told') -- it knows of no end but the one it is told now
end
redis.call('PEXPIRE', QUEUE, PLACE_MS)
if state == 'h' then -- its release has to look for waiters now
  redis.call('SET', LOCK, lease .. '#b1;' .. token .. ';w;' .. tail, 'KEEPTTL')
end
return {0, holder, left, redis.call('ZRANK', QUEUE, LEASE), now, known and 0 or 1}
