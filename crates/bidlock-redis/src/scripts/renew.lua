-- Stands behind clock.lua. KEYS: as in common.lua, and the leases that were revoked at once
-- ARGV: lease#b1; TTL ms, deadline us
-- Reply: {1, now us} renewed; {2, now us} too late; {3} expired; {4} taken; {5} revoked;
-- {6} the store forgot its locks.
if now > ARGV[3] then return {2, now} end -- I9
local held = redis.call('GET', KEYS[1])
if held and string.find(held, ARGV[1], 1, true) == 1 then
  local token, state, tail = string.match(held, '^(%d+);(%a);(.*)$', #ARGV[1] + 1)
  if state == 'r' then return {5} end
  local left, ttl = redis.call('PTTL', KEYS[1]), tonumber(ARGV[2])
  if state == 'g' then -- the grant's holder has heard of it
    local waited = redis.call('EXISTS', KEYS[2]) == 1
    local value = ARGV[1] .. token .. (waited and ';w;' or ';h;') .. tail
    redis.call('PEXPIRE', KEYS[1], math.max(left, ttl)) -- first: it works when memory is short
    redis.call('SET', KEYS[1], value, 'PX', math.max(left, ttl))
    redis.call('HDEL', KEYS[3], 'window')
    if not waited then redis.call('DEL', KEYS[3]) end
  elseif left < ttl then -- I5: never shorter
    redis.call('PEXPIRE', KEYS[1], ttl)
  end
  return {1, now}
end
local until_ms = redis.call('ZSCORE', KEYS[5], string.sub(ARGV[1], 1, -5))
if until_ms and until_ms * 1000 > tonumber(now) then return {5} end
if held then return {4} end
-- Every grant writes the counter, and nothing removes it.
return {redis.call('EXISTS', KEYS[4]) == 0 and 6 or 3}
