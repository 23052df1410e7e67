-- KEYS: a name under the prefix, where nothing is. ARGV: channel
-- Reply: the errors of commands that the scripts call. What it writes, it takes back.
local key, failed = KEYS[1], {}
for _, command in ipairs({
  {'TIME'}, {'SET', key, '1', 'PX', 1000}, {'GET', key}, {'PTTL', key}, {'PEXPIRE', key, 1000},
  {'EXISTS', key}, {'GETSET', key, '1'}, {'PSETEX', key, 1000, '1'}, {'DEL', key},
  {'ZADD', key, 1, 'a'}, {'ZRANGE', key, 0, 0},
  {'ZREVRANGE', key, 0, 0}, {'ZCARD', key}, {'ZRANK', key, 'a'}, {'ZSCORE', key, 'a'},
  {'ZREM', key, 'a'}, {'HSET', key, 'a', '1'}, {'HGET', key, 'a'}, {'HMGET', key, 'a'},
  {'HGETALL', key}, {'HDEL', key, 'a'}, {'PUBLISH', ARGV[1], 'probe'},
}) do
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    table.insert(failed, command[1] .. ' ' .. reply.err)
  end
end
redis.pcall('DEL', key)
redis.pcall('PEXPIRE', key, 1000) -- for a user who may not delete
return failed
