-- Stands behind common.lua: who waits, and how they are told.
local function leave(lease)
  redis.call('ZREM', QUEUE, lease)
  redis.call('HDEL', PLACES, lease)
end

-- The waiters at these places of the queue, each {lease, client, client;label, window or nil}:
-- one that is dead has no window. All that is known of them is read at once.
local function waiters(from, to)
  local found = redis.call('ZRANGE', QUEUE, from, to)
  if #found == 0 then return found end
  local places, clients = redis.call('HMGET', PLACES, unpack(found)), {}
  for n, lease in ipairs(found) do
    local pattern = '^(%d+) (%d+) ((%x*);.*)$'
    local deadline, window, tail, client = string.match(places[n] or '', pattern)
    local dies = tonumber(deadline)
    found[n] = {lease, client, tail, dies and dies > micros() and window or nil}
    clients[n] = '@' .. (client or '')
  end
  for n, alive in ipairs(redis.call('HMGET', PLACES, unpack(clients))) do
    if not (alive and tonumber(alive) > micros()) then found[n][4] = nil end
  end
  return found
end

local function drop_silent() -- I7: the client that let its window pass does not hear
  local silent = redis.call('HGET', PLACES, 'window')
  for _, lease in ipairs(silent and redis.call('ZRANGE', QUEUE, 0, -1) or {}) do
    local place = redis.call('HGET', PLACES, lease) or ''
    if string.match(place, '^%d+ %d+ (%x*);') == silent then leave(lease) end
  end
  if silent then redis.call('HDEL', PLACES, 'window') end
end

local function tell(client, kind, lease, rest)
  local news = kind .. ' ' .. LOCK .. ' ' .. lease .. (rest and ' ' .. rest or '')
  return redis.call('PUBLISH', CHANNELS .. client, news)
end
