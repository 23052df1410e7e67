-- Stands behind common.lua; the fifth key has the leases that were revoked at once.
-- ARGV: lease, TTL ms, deadline us
-- Reply: {1, now us} renewed; {2, now us} too late; {3} expired; {4} taken; {5} revoked;
-- {6} the store forgot its locks.
local LEASE, TTL = ARGV[1], tonumber(ARGV[2])
if now() > tonumber(ARGV[3]) then return {2, now()} end -- I9
local held = redis.call('GET', LOCK)
if held and string.sub(held, 1, #LEASE + 4) == LEASE .. '#b1;' then
  local lease, token, state, client, label = read(held)
  if state == 'r' then return {5} end
  local left = redis.call('PTTL', LOCK)
  if state == 'g' then -- the grant's holder has heard of it
    local kept = math.max(left, TTL)
    redis.call('SET', LOCK, value(lease, token, 'h', client, label), 'PX', kept)
    redis.call('HDEL', PLACES, 'window')
    if redis.call('EXISTS', QUEUE) == 0 then redis.call('DEL', PLACES) end
  elseif left < TTL then -- I5: never shorter
    redis.call('PEXPIRE', LOCK, TTL)
  end
  return {1, now()}
end
local until_ms = redis.call('ZSCORE', KEYS[5], LEASE)
if until_ms and until_ms * 1000 > now() then return {5} end
if held then return {4} end
-- Every grant writes the counter, and nothing removes it.
return {redis.call('EXISTS', TOKENS) == 0 and 6 or 3}
