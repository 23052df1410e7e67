-- Stands behind pass_on.lua; the fifth key has the leases that were revoked at once.
-- ARGV: token, 1 to free the key at once, channel
-- Reply: {1, left ms} marked; {2} freed; {0, token or -1} not held with that token.
local held = redis.call('GET', LOCK)
local lease, token, state, client, label = read(held)
if token ~= ARGV[1] then return {0, tonumber(token) or -1} end -- I12
local left = redis.call('PTTL', LOCK)
if ARGV[2] ~= '1' then
  redis.call('SET', LOCK, value(lease, token, 'r', client, label), 'PX', math.max(left, 1))
  redis.call('HDEL', PLACES, 'window') -- it is not for the operator's act that it is silent
  tell(client, 'l', lease)
  return {1, left}
end
redis.call('DEL', LOCK)
redis.call('HDEL', PLACES, 'window')
-- Until what it was promised has passed, the old holder learns that an operator did it.
local until_ms = math.floor(now() / 1000) + math.max(left, 0)
redis.call('ZADD', KEYS[5], until_ms, lease)
if redis.call('PTTL', KEYS[5]) < left then redis.call('PEXPIRE', KEYS[5], math.max(left, 1)) end
if redis.call('EXISTS', QUEUE, PLACES) > 0 then pass_on() end
tell(client, 'l', lease)
return {2}
