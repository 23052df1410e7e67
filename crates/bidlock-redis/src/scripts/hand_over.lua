-- Stands behind common.lua: who waits, and how they are told.
local function leave(lease)
  redis.call('ZREM', QUEUE, lease)
  redis.call('HDEL', PLACES, lease)
end

local function place_of(lease) -- window, client, client;label of a live waiter
  local place = redis.call('HGET', PLACES, lease) or ''
  local deadline, window, tail, client = string.match(place, '^(%d+) (%d+) ((%x*);.*)$')
  local alive = client and redis.call('HGET', PLACES, '@' .. client)
  if alive and tonumber(deadline) > micros() and tonumber(alive) > micros() then
    return window, client, tail
  end
end

local function drop_dead() -- at the front of the queue; returns the first that lives
  local first = redis.call('ZRANGE', QUEUE, 0, 0)[1]
  while first and not place_of(first) do
    leave(first)
    first = redis.call('ZRANGE', QUEUE, 0, 0)[1]
  end
  return first
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
