-- KEYS: lock key, its queue, its places, the counter (see common.lua, which follows)
-- ARGV: lease#b1;  Reply: 1 when the key or a place was the lease's, else 0.
local time -- read when it is needed
local held = redis.call('GET', KEYS[1])
local ours = held and string.find(held, ARGV[1], 1, true) == 1 -- I2
if ours and string.byte(held, #ARGV[1] + 18) == 104 then -- h: nobody waits
  redis.call('DEL', KEYS[1])
  return 1
end
