-- Stands behind hand_over.lua. I13: the key may end sooner than those who wait were told: the last
-- waiter of each client, whose turn comes late, looks then. Whoever looks before learns it there.
local function tell_others(window)
  local told = redis.call('HGET', PLACES, 'told')
  if told and told > digits(micros()) then return end
  redis.call('HSET', PLACES, 'told', digits(micros() + window * 1000))
  local last, heard, count = waiters(-100, -1), {}, 0
  for n = #last, 1, -1 do
    local lease, client, _, lives = unpack(last[n])
    if lives and not heard[client] and count < 3 then
      heard[client], count = true, count + tell(client, 'e', lease, window)
    end
  end
end

-- I6: gives the free key to the waiter that has waited longest, lives, and hears. Returns 'own'
-- when that is `own`, 'full' when no token is left, 'done' when it was handed over.
local function pass_on(own)
  local deaf, at, first, second = {}, 0, unpack(waiters(0, 1))
  while first do
    local lease, client, tail, window = unpack(first)
    if window and lease == own then return 'own' end
    if window and not deaf[client] then
      local token = next_token()
      if not token then return 'full' end
      local text = digits(token)
      redis.call('SET', LOCK, lease .. '#b1;' .. text .. ';g;' .. tail, 'PX', window)
      if tell(client, 'g', lease, text .. ' ' .. digits(micros()) .. ' ' .. window) > 0 then
        redis.call('HSET', PLACES, 'window', client)
        leave(lease)
        if second then tell_others(window) end
        return 'done'
      end
      deaf[client] = redis.call('DEL', LOCK) -- nobody heard of it
    end
    if window then at = at + 1 else leave(lease) end
    first, second = unpack(waiters(at, at + 1))
  end
  if redis.call('EXISTS', QUEUE) == 0 then redis.call('DEL', PLACES) end
end
