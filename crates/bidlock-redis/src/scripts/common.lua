-- What the scripts share that can hand a key over.
-- KEYS: lock key, its queue (lease -> order), its places (lease -> deadline, window, client,
-- label; @client -> alive until; window -> client of a grant not yet confirmed; told -> until when
-- those who wait know that the key may end), the counter.
-- A lock's value: LEASE#b1;TOKEN;STATE;CLIENT;LABEL, state h(eld), w(aited for), g(ranted),
-- r(evoked). The first argument of every script that acts for a lease is LEASE#b1;
local LOCK, QUEUE, PLACES, TOKENS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local CHANNELS = string.sub(TOKENS, 1, -7) .. 'client:' -- PREFIX:#tokens, PREFIX:#client:CLIENT
local PLACE_MS, LIMIT, clock = 90000, 4503599627370496, nil

local function micros()
  if not clock then
    time = time or redis.call('TIME')
    clock = time[1] * 1000000 + time[2]
  end
  return clock
end

local function digits(number) -- tostring would keep 14 digits only
  return string.format('%.0f', number)
end

-- I1: above the last token, and not below the clock; nil when that would pass the limit.
local function next_token()
  if micros() > LIMIT then return nil end
  local last = tonumber(redis.call('SET', TOKENS, digits(micros()), 'GET') or 0)
  if last < micros() then return micros() end
  local token = math.min(last + 1, LIMIT + 1)
  redis.call('SET', TOKENS, digits(token > LIMIT and last or token))
  return token <= LIMIT and token or nil
end

local function read(text) -- lease, token, state, client;label; nothing of a foreign value
  return string.match(text or '', '^([^#]+)#b1;(%d+);(%a);(.*)$')
end
