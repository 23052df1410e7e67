-- Stands behind common.lua. ARGV: lease, TTL ms, deadline us, wait ms or -1, client, label, channel
-- Reply: {1, token, now us} granted; {0, holder, left ms, ahead, now us, queued anew} held;
-- {2, now us} too late; {3, 'tokens' or 'waiters'} limit.
local LEASE, TTL = ARGV[1], tonumber(ARGV[2])
if now() > tonumber(ARGV[3]) then return {2, now()} end -- I9

local function grant()
  local token = next_token()
  if not token then return {3, 'tokens'} end
  redis.call('SET', LOCK, value(LEASE, token, 'h', ARGV[5], ARGV[6]), 'PX', TTL)
  return {1, token, now()}
end
if redis.call('EXISTS', LOCK, QUEUE, PLACES) == 0 then return grant() end
