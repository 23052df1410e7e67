-- Stands behind release.lua and pass_on.lua: somebody may wait, or the key is not the lease's.
local LEASE = string.sub(ARGV[1], 1, -5)
local left = redis.call('ZREM', QUEUE, LEASE) -- I11
if left == 1 then redis.call('HDEL', PLACES, LEASE) end
if ours then
  redis.call('DEL', LOCK) -- first, so that it works when memory is short
  redis.call('HDEL', PLACES, 'window')
end
if (ours or not held) and redis.call('EXISTS', QUEUE, PLACES) > 0 then
  pass_on()
elseif left == 1 and redis.call('EXISTS', QUEUE) == 0 then
  redis.call('DEL', PLACES)
end
return (ours or left == 1) and 1 or 0
