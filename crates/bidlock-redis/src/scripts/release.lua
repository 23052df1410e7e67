-- KEYS: as in common.lua, which follows. ARGV: lease, channel
-- Reply: 1 when the key or a place was the lease's, else 0.
local LEASE = ARGV[1]
local held = redis.call('GET', KEYS[1])
local ours = held and string.sub(held, 1, #LEASE + 4) == LEASE .. '#b1;' -- I2
if ours and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[1], KEYS[3])
  return 1
end
