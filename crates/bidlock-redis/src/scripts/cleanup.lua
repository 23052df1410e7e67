-- KEYS: a lock key, its queue, its places, its revoked leases. ARGV: what was found, channel
-- Reply: 1 when it still was so, and is mended or removed, else 0.
local found, time = ARGV[1], redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if found == 'lease' then -- R19: nobody knows how long it was to run, so never less than any may
  local held = redis.call('GET', KEYS[1])
  local lease, client = string.match(held or '', '^([^#]+)#b1;%d+;%a;(%x*);')
  if not lease or redis.call('PTTL', KEYS[1]) ~= -1 then return 0 end
  -- A holder that hears of it renews it, and gives it an end thereby.
  local heard = redis.call('PUBLISH', ARGV[2] .. client, 'l ' .. KEYS[1] .. ' ' .. lease)
  if heard == 0 then redis.call('PEXPIRE', KEYS[1], 86400000) end
  return 1
end
if found == 'revoked' then -- nobody asks for longer than the longest TTL
  if redis.call('PTTL', KEYS[4]) ~= -1 then return 0 end
  return redis.call('PEXPIRE', KEYS[4], 86400000)
end
local places = redis.call('HGETALL', KEYS[3])
for at = 2, #places, 2 do -- somebody alive keeps a queue
  local alive = string.sub(places[at - 1], 1, 1) == '@' and tonumber(places[at])
  if alive and alive > now then return 0 end
end
return redis.call('DEL', KEYS[2], KEYS[3]) > 0 and 1 or 0
