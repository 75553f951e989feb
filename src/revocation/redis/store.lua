-- Stores rules. If a rule already exists, the later time is kept. Each new or changed rule is added
-- to the stream of changes.
-- KEYS: the blocks, the cut-offs, the stream of changes, and the number of the latest change.
-- ARGV: the time of the oldest cut-off to keep, and the largest number of rules. For each rule,
-- three more values follow: its kind, its change and target as JSON, and its time.
for i = 3, #ARGV, 3 do
    local set = KEYS[1]
    if ARGV[i] == 'cut_off' then set = KEYS[2] end
    if redis.call('ZADD', set, 'GT', 'CH', ARGV[i + 2], ARGV[i + 1]) == 1 then
        local number = redis.call('INCR', KEYS[4])
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', 100000, '*',
            'number', number, 'rule', ARGV[i + 1], 'at', ARGV[i + 2])
    end
end
-- Remove the expired cut-offs. Every token that such a cut-off refuses has expired too.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1])
-- If there are too many rules, remove the oldest cut-offs. Blocks are never removed.
local excess = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[2])
if excess > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, excess - 1)
end
