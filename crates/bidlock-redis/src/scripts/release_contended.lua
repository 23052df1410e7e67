-- Stands behind release.lua and pass_on.lua: somebody may wait, or the key is not the lease's.
local LEASE, left = string.sub(ARGV[1], 1, -5), 0
if ours then
  redis.call('DEL', LOCK) -- first, so that it works when memory is short
  if string.byte(held, #ARGV[1] + 18) == 103 then redis.call('HDEL', PLACES, 'window') end -- g
else
  left = redis.call('ZREM', QUEUE, LEASE) -- I11
  if left == 1 then redis.call('HDEL', PLACES, LEASE, 'told') end
end
if ours then
  pass_on()
elseif not held and redis.call('EXISTS', QUEUE, PLACES) > 0 then
  drop_silent()
  pass_on()
elseif left == 1 and redis.call('EXISTS', QUEUE) == 0 then
  redis.call('DEL', PLACES)
end
return (ours or left == 1) and 1 or 0
