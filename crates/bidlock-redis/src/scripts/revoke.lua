-- Stands behind pass_on.lua; the fifth key has the leases that were revoked at once.
-- ARGV: token, 1 to free the key at once
-- Reply: {1, left ms} marked; {2} freed; {0, token or -1} not held with that token.
local held = redis.call('GET', LOCK)
local lease, token, state, tail = read(held)
if token ~= ARGV[1] then return {0, tonumber(token) or -1} end -- I12
local left, client = math.max(redis.call('PTTL', LOCK), 1), string.match(tail, '^%x*')
if ARGV[2] ~= '1' then
  if state ~= 'r' then -- or each act of an operator would lengthen its last millisecond
    redis.call('SET', LOCK, lease .. '#b1;' .. token .. ';r;' .. tail, 'PX', left)
  end
  redis.call('HDEL', PLACES, 'window') -- it is not for the operator's act that it is silent
  tell(client, 'l', lease)
  return {1, left}
end
redis.call('DEL', LOCK) -- first, so that it works when memory is short
redis.call('HDEL', PLACES, 'window')
-- Until what it was promised has passed, the old holder learns that an operator did it.
redis.call('ZADD', KEYS[5], math.floor(micros() / 1000) + left, lease)
if redis.call('PTTL', KEYS[5]) < left then redis.call('PEXPIRE', KEYS[5], left) end
pass_on()
tell(client, 'l', lease)
return {2}
