-- What the scripts share that can hand a key over; it stands before each of them.
-- KEYS: lock key, its queue (lease -> order), its places (lease -> deadline, window, client,
-- label; @client -> alive until; window -> client of a grant not yet confirmed), the counter.
-- A lock's value: LEASE#b1;TOKEN;STATE;CLIENT;LABEL, state h(eld), g(ranted), r(evoked).
local LOCK, QUEUE, PLACES, TOKENS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PLACE_MS, LIMIT, clock = 90000, 4503599627370496, nil

local function now() -- microseconds; read once, because it may move while a script runs
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000000 + time[2]
  end
  return clock
end

local function digits(number) -- tostring would keep 14 digits only
  return string.format('%.0f', number)
end

-- I1: above the last token, and not below the clock; nil when that would pass the limit.
local function next_token()
  if now() > LIMIT then return nil end
  local last = tonumber(redis.call('SET', TOKENS, digits(now()), 'GET') or 0)
  if last < now() then return now() end
  local token = math.min(last + 1, LIMIT + 1)
  redis.call('SET', TOKENS, digits(token > LIMIT and last or token))
  return token <= LIMIT and token or nil
end

local function value(lease, token, state, client, label)
  return lease .. '#b1;' .. digits(token) .. ';' .. state .. ';' .. client .. ';' .. label
end

local function read(text) -- lease, token, state, client, label; nothing of a foreign value
  return string.match(text or '', '^([^#]+)#b1;(%d+);(%a);(%x*);(.*)$')
end
