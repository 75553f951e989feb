-- Stores rules: for each rule, the latest time counts. Changed rules become news.
-- KEYS: blocks, cut-offs, news, number of the latest news.
-- ARGV: oldest cut-off to keep, largest number of rules, then kind, rule and time of each rule.
for i = 3, #ARGV, 3 do
    local set = KEYS[1]
    if ARGV[i] == 'cut_off' then set = KEYS[2] end
    if redis.call('ZADD', set, 'GT', 'CH', ARGV[i + 2], ARGV[i + 1]) == 1 then
        local number = redis.call('INCR', KEYS[4])
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', 100000, '*',
            'number', number, 'rule', ARGV[i + 1], 'at', ARGV[i + 2])
    end
end
-- No valid token can be older than these cut-offs.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1])
-- Blocks stay, whatever their number is.
local excess = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[2])
if excess > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, excess - 1)
end
