-- KEYS: lock key, its queue. Reply: {holder, left ms, waiters, now us}, or nothing when it is free.
local held = redis.call('GET', KEYS[1])
if not held then return nil end
local time = redis.call('TIME')
local holder = string.gsub(held, '(%x%x%x%x%x%x%x%x)%x%x%x%x%x%x%x%x#b1;', '%1#b1;', 1)
local waiters, left = redis.call('ZCARD', KEYS[2]), redis.call('PTTL', KEYS[1])
return {holder, left, waiters, time[1] * 1000000 + time[2]}
