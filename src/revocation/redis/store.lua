-- Stores rules. If a rule already exists, the later time is kept. Each new or changed rule is added
-- to the stream of changes.
-- KEYS: the blocks, the cut-offs, the stream of changes, and the number of the latest change.
-- ARGV:
-- 1. how long cut-offs are kept, in milliseconds
-- 2. how far the time of a rule may be ahead of Redis's clock, in milliseconds
-- 3. the maximum number of rules
-- 4. and later: the kind, the key and the time of each rule
-- All instances share Redis's clock, so an instance with a wrong clock does no harm here.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local latest = now + tonumber(ARGV[2])
for i = 4, #ARGV, 3 do
    local set = KEYS[1]
    if ARGV[i] == 'cut_off' then set = KEYS[2] end
    local at = string.format('%.0f', math.min(tonumber(ARGV[i + 2]), latest))
    if redis.call('ZADD', set, 'GT', 'CH', at, ARGV[i + 1]) == 1 then
        local number = redis.call('INCR', KEYS[4])
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', 100000, '*',
            'number', number, 'rule', ARGV[i + 1], 'at', at)
    end
end
-- Remove the expired cut-offs. Every token that such a cut-off refuses has expired too.
local oldest = string.format('%.0f', now - tonumber(ARGV[1]))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. oldest)
-- If there are too many rules, remove the oldest cut-offs. Blocks are never removed.
local excess = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
if excess > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, excess - 1)
end
