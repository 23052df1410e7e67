-- Read once, because it may move while a script runs. Times have 16 digits, and are compared as
-- they are where that will do.
local time = redis.call('TIME')
local now = time[1] .. string.sub('00000' .. time[2], -6)
