-- Stands behind hand_over.lua.
local function tell_next(deaf, window) -- I13: the key may end sooner than the next was told
  for _, lease in ipairs(redis.call('ZRANGE', QUEUE, 0, 9)) do
    local _, client = place_of(lease)
    if client and not deaf[client] and tell(client, 'e', lease, window) > 0 then return end
  end
end

-- I6: gives the free key to the waiter that has waited longest, lives, and can be reached. Returns
-- 'own' when that is `own`, who shall take it itself; 'full' when no token is left; 'done' when it
-- was handed over; else nothing: it is free.
local function pass_on(own)
  drop_silent()
  local deaf, at, lease = {}, 0, drop_dead()
  while lease do
    local window, client, tail = place_of(lease)
    if window and lease == own then return 'own' end
    if not window then
      leave(lease)
    elseif deaf[client] then
      at = at + 1
    else
      local token = next_token()
      if not token then return 'full' end
      local text = digits(token)
      redis.call('SET', LOCK, lease .. '#b1;' .. text .. ';g;' .. tail, 'PX', window)
      if tell(client, 'g', lease, text .. ' ' .. digits(micros()) .. ' ' .. window) > 0 then
        leave(lease)
        redis.call('HSET', PLACES, 'window', client)
        redis.call('PEXPIRE', PLACES, PLACE_MS)
        tell_next(deaf, window)
        return 'done'
      end
      redis.call('DEL', LOCK) -- nobody heard of it
      deaf[client], at = true, at + 1
    end
    lease = redis.call('ZRANGE', QUEUE, at, at)[1]
  end
  if redis.call('EXISTS', QUEUE) == 0 then redis.call('DEL', PLACES) end
end
