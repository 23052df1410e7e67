-- Stands behind clock.lua. KEYS: lock key, its queue, its places, the counter: see common.lua,
-- which follows.
-- ARGV: lease#b1; TTL ms, deadline us, client;label, and only of a waiter: wait ms
-- Reply: the token alone, which is the time as well, or {1, token, now us}: granted;
-- {2, now us} too late; {0, holder, left ms, ahead, now us, queued anew} held;
-- {3, 'tokens' or 'waiters'} limit.
if now > ARGV[3] then return {2, now} end -- I9
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) == 0 and now < '4503599627370496' then
  local last = redis.call('GETSET', KEYS[4], now) -- I1
  if not last or (last < now and #last == 16) then
    redis.call('PSETEX', KEYS[1], ARGV[2], ARGV[1] .. now .. ';h;' .. ARGV[4])
    return now
  end
  redis.call('SET', KEYS[4], last) -- the clock is behind the last token
end
