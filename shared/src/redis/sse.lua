#!lua name=sse
-- version 6
--
-- What has to be atomic in Redis. Raise the version with every change: a library is replaced by a newer one only.
--
-- Redis 7.0 or newer and Valkey hold this text as a function library: `FCALL <function> 1 <key> <argument>...`. Without
-- its first line it is a script, for Redis 6.2 too: `EVALSHA <sha> 1 <key> <function> <argument>...`.
--
--   sse_publish   <prefix>:<channel>   payload [history] [ttl_s] [once] [detail] [once_ttl_s] [waits]
--       An event into the channel's history and to everybody who listens, once.
--       -> {position, receivers}; with detail "1" {position, receivers, duplicate 0 or 1, epoch}
--       With waits "1" a repetition writes too, so that a WAIT behind it is for the event.
--   sse_clock     <prefix>.clock       [node] [trusting] [doubted]
--       The partition's clock, kept true; with a node, published to that node alone. With trusting "1" another server, or a
--       restart, that has a clock is no other life of the data. The doubted epoch is another life from now on.
--       -> {position, epoch, TIME in ms}
--   sse_cancel    <prefix>:<channel> or <prefix>.cancel:<channel>
--       Tells the channel's producer to stop.
--       -> receivers
--   sse_lease     <prefix>.user:<id>   ttl_ms limit lease...
--       Takes leases of a user's connections, or renews them: all, or none where there would be more than `limit`. An
--       empty limit is none. With ttl_ms "0" they are given back.
--       -> {granted 0 or 1, leases held now, of these the new ones; or of those given back the ones that were held}
--   sse_presence  <prefix>:presence:<id>   ttl_ms grace_ms lease...
--       Takes leases of a user's connections, or renews them; with ttl_ms "0" they are given back. Whoever had none and was
--       not online is: an event `online` on that channel.
--       -> as sse_lease
--   sse_absent    <prefix>.leaving     grace_ms limit
--       Looks at up to `limit` users whose leases may be over for grace_ms: an event `offline` for those whose are.
--       -> users that it looked at
--   sse_nodes     <prefix>.nodes       [ttl_ms incarnation text]
--       Keeps what a node says of itself for ttl_ms, or with an empty text no longer.
--       -> nodes that are kept
--       Without arguments it tells who is there:
--       -> {TIME in ms, incarnation, TIME in ms at which it said so, text, ...}
--
-- An optional argument that is absent or "" has its default. With partitions, names carry the partition as a hash tag
-- (`<prefix>:{7}:<channel>`, `<prefix>.{7}.clock`), and messages go by SPUBLISH; what is of none is in the first,
-- `<prefix>.{0}.nodes`. Wrong input is answered by
-- `ERR <function>: <what> ...` before anything is written.
--
-- A message is byte 0x1E, `<position> <previous> <epoch>`, LF, payload; a node hears the clock as it is stored.
--
-- Kept in Redis, beside the history, the stream `<prefix>:<channel>` of entries `p <previous> d <payload>`:
--   <prefix>.clock                   `<position> <epoch> <replid>`, for good
--   <prefix>.last:<channel>          `<position>` or `<position> end`, the channel's latest event
--   <prefix>.once:<channel>:<once>   `<position> <epoch>` of the event that was published with that key; in it `%` is
--                                    written `%25` and `:` `%3A`, so that no two pairs of channel and key have one name
--   <prefix>.cancel:<channel>        TIME in ms of the cancellation
--   <prefix>.user:<id>               a sorted set of leases, each with the TIME in ms at which it expires
--   <prefix>.present:<id>            the same, of those who are told of
--   <prefix>.leaving                 a sorted set of the users who are online, each with the TIME in ms at which to look
--   <prefix>.nodes                   a hash, by incarnation: `<TIME in ms> <TIME in ms at which it is over> <text>`
--
-- A position is `<ms>-<seq>`, the id of a stream entry. Here its halves are doubles, exact up to 2^53 - 1, and go into
-- text by `position` alone.
--
-- What Lua does costs as much as the commands do. So what a name or a stored text says is read once and remembered by the
-- text itself (`channels`): commands are never left out for that, and what they answer counts.
--
-- While a library is loaded, `redis.register_function` is all there is: outside of functions, nothing of Lua's own
-- (`string`, `pairs`) can be used.

-- Defaults are text like the arguments that they stand for, and go into commands as they are.
local DEFAULT_HISTORY, MAX_HISTORY = "1000", 4294967295
-- Seconds. The most is a hundred years: far beyond, EXPIRE would not take it.
local DEFAULT_TTL, DEFAULT_TTL_MS, MAX_TTL = "3600", 3600000, 3153600000
local DEFAULT_ONCE_TTL, MAX_ONCE_TTL = "600", 600
local CANCEL_TTL = 3600
-- Seven days, in ms: how long a channel without history can still tell a reader that it missed events.
local LAST_TTL, LAST_TTL_MS = "604800000", 604800000
-- A clock further behind than this, in ms, is raised.
local MAX_CLOCK_AGE_MS = 60000
-- By how much the clocks of two servers may differ whose failover is trusted.
local TRUST_MARGIN_MS = 60000
-- A clock that was written so long after a server of a Cluster had started, by all its servers' time, was not written before that.
local ARRIVAL_MARGIN_MS, MAX_AHEAD_MS = 10000, 2000
-- In the place of a server's name: the data may lack something, and the next sse_clock begins another life of them.
local NOBODY = "0"
local MAX_PREFIX, MAX_PARTITION, MAX_CHANNEL, MAX_ONCE, MAX_NODE = 32, 16383, 256, 128, 64
local MAX_EPOCH = 40
-- An hour, in ms.
local MAX_LEASE_MS, MAX_LEASE_LIMIT = 3600000, 1000000
-- Of one call. Lua takes no more than some thousand arguments at once.
local MAX_LEASES, MAX_LEASE = 1000, 128
-- Of what is told of users who come and go: events kept, and for how many seconds.
local PRESENCE_HISTORY, PRESENCE_TTL = "10", "604800"
-- Users that one call looks at: each may be a publish.
local MAX_ABSENT = 1000
-- Nodes at a time, and bytes that one says of itself.
local MAX_NODES, MAX_NODE_TEXT = 1000, 1024
local MAX_EXACT = 9007199254740991
-- Channels that are remembered: some 600 bytes each, twice that with the longest names, so 5 MB at most. All are
-- forgotten when there would be more.
local MAX_REMEMBERED = 4096

local function refuse(name, what)
  return {err = "ERR " .. name .. ": " .. what}
end

local function miscounted(name, keys, args, most)
  if #keys ~= 1 then return refuse(name, "keys are " .. #keys .. ", the limit is 1") end
  if #args > most then return refuse(name, "arguments are " .. #args .. ", the limit is " .. most) end
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Text. Patterns name their bytes: classes such as %s may depend on the locale.

-- The sequences of more than one byte that are UTF-8 (Unicode 3.9, table 3-7): none overlong, no surrogate, none past
-- U+10FFFF.
local UTF8 = {
  "[\194-\223][\128-\191]",
  "\224[\160-\191][\128-\191]",
  "[\225-\236\238\239][\128-\191][\128-\191]",
  "\237[\128-\159][\128-\191]",
  "\240[\144-\191][\128-\191][\128-\191]",
  "[\241-\243][\128-\191][\128-\191][\128-\191]",
  "\244[\128-\143][\128-\191][\128-\191]",
}

local function is_utf8(text)
  -- The first byte of a sequence is never the middle of another: take all of each kind out, and nothing may be left.
  for i = 1, #UTF8 do
    if not text:find("[\128-\255]") then return true end
    text = text:gsub(UTF8[i], "?")
  end
  return not text:find("[\128-\255]")
end

-- Unicode's control characters and white space.
local function has_space_or_control(text)
  if text:find("[%z\1-\32\127]") then return true end
  if not text:find("[\194\225-\227]") then return false end
  return text:find("\194[\128-\160]")                         -- U+0080 to U+00A0
    or text:find("\225\154\128")                              -- U+1680
    or text:find("\226\128[\128-\138\168\169\175]")           -- U+2000 to U+200A, U+2028, U+2029, U+202F
    or text:find("\226\129\159") or text:find("\227\128\128") -- U+205F, U+3000
end

-- The text itself where it is a whole number from 1 to `most`; the default where it is absent; else nil.
local function whole(text, default, most)
  if not text or text == "" then return default end
  return text:find("^[1-9][0-9]*$") and tonumber(text) <= most and text or nil
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Names.

-- How the internal names beside a key begin, and the command that publishes there. Or nil, and why not.
local function place(prefix, partition)
  if not prefix or #prefix > MAX_PREFIX then return nil end
  if not partition then return prefix .. ".", "PUBLISH" end
  if partition ~= "0" and not whole(partition, nil, MAX_PARTITION) then return nil end
  -- Only since 7.0 does a server tell its version here. An unknown command would fail only when much was written.
  if not redis.REDIS_VERSION_NUM then return nil, "key has a partition, which needs Redis 7.0" end
  return prefix .. ".{" .. partition .. "}.", "SPUBLISH"
end

-- Why it is no name of a channel.
local function wrong_channel(channel)
  if channel == "" or #channel > MAX_CHANNEL then
    return "key has a channel of " .. #channel .. " bytes, the limit is 1 to " .. MAX_CHANNEL
  end
  -- Most names have nothing but printable ASCII.
  if not channel:find("[^!-)+-z|~]") then return nil end
  if not is_utf8(channel) then return "key has a channel that is not UTF-8" end
  if channel:find("[{}*]") or has_space_or_control(channel) then
    return "key has a channel with a control character, white space, {, } or *"
  end
end

local PARTS = ", prefix 1 to 32 of A-Z a-z 0-9 _ -, n 0 to 16383"
local CHANNEL_KEY = "key is not <prefix>:<channel> or <prefix>:{<n>}:<channel>" .. PARTS
local CLOCK_KEY = "key is not <prefix>.clock or <prefix>.{<n>}.clock" .. PARTS

-- Start of the internal names, the command that publishes, the channel; or nil, and why not.
local function parse_channel_key(key)
  local prefix, channel = key:match("^([0-9A-Za-z_-]+):(.*)$")
  local partition
  if prefix and channel:byte() == 123 then -- {
    local n, rest = channel:match("^{([0-9]+)}:(.*)$")
    if n then partition, channel = n, rest end
  end
  local internal, publish = place(prefix, partition)
  if not internal then return nil, publish or CHANNEL_KEY end
  local wrong = wrong_channel(channel)
  if wrong then return nil, wrong end
  return internal, publish, channel
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Positions and the clock.

-- Where a C long has 64 bits, which is nearly everywhere, "%d" does in a quarter of the time what "%.0f" does.
local POSITION = ("%d"):format(MAX_EXACT) == "9007199254740991" and "%d-%d" or "%.0f-%.0f"

local function position(ms, seq)
  return POSITION:format(ms, seq)
end

-- The position of something new: now, or right after the given one where that is not later.
local function advance(ms, seq, now)
  if now > ms then return now, 0 end
  if seq >= MAX_EXACT then return ms + 1, 0 end
  return ms, seq + 1
end

-- The halves as numbers; nil where a double cannot hold them.
local function halves(ms, seq)
  ms, seq = tonumber(ms), tonumber(seq)
  if not ms or ms > MAX_EXACT or seq > MAX_EXACT then return nil end
  return ms, seq
end

-- The position at the start of a text, or nil.
local function parse_position(text)
  return halves(text:match("^([0-9]+)%-([0-9]+)"))
end

-- The server's time in ms, and its seconds and microseconds.
local function read_time()
  local now = redis.call("TIME")
  local micros = tonumber(now[2])
  return now[1] * 1000 + (micros - micros % 1000) / 1000, now
end

-- The clock that `text` says, or nil.
local function parse_clock(text)
  local ms, seq, epoch, replid = (text or ""):match("^([0-9]+)%-([0-9]+) ([0-9A-Za-z]+) ([0-9A-Za-z]+)$")
  ms, seq = halves(ms, seq)
  if not ms or #epoch > MAX_EPOCH then return nil end
  return ms, seq, epoch, replid
end

-- Names the data's present life: it changes with a restart, a failover, and from server to server.
local function read_replid()
  local replication = redis.call("INFO", "replication")
  local replid = assert(replication:match("master_replid:([0-9A-Za-z]+)"), "INFO has no master_replid")
  return replid, replication:match("master_replid2:([0-9A-Za-z]+)")
end

-- Whether a clock of another server came here with its slot, which moves everything and loses nothing: neither is it of the server
-- whose place this one took (`before`), nor can it have been here when this one started.
local function has_moved_here(ms, stored_replid, before, now)
  if stored_replid == before or stored_replid == NOBODY then return false end
  if not redis.call("INFO", "cluster"):find("cluster_enabled:1", 1, true) then return false end
  local uptime = tonumber(redis.call("INFO", "server"):match("uptime_in_seconds:([0-9]+)"))
  return uptime and ms > now - uptime * 1000 + ARRIVAL_MARGIN_MS and ms <= now + MAX_AHEAD_MS
end

-- Names an epoch that begins now. No two servers, and no two lives of one, name theirs alike.
local function name_epoch(replid, time)
  return redis.sha1hex(replid .. " " .. time[1] .. "." .. time[2]):sub(1, 16)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- What is remembered. Nothing of it is true of the data, only of texts: a channel's names follow from its key, and the
-- numbers beside a stored text from that text. Whoever uses them has just read that the text is what is stored.

-- By key: {publish, last_key, once_prefix, internal, name, clock; and of `last`, the last position as it is stored: ms, seq, previous}.
local channels, remembered = {}, 0
-- By the clock's key: {key; and of `text`, the clock as it is stored: ms, seq, epoch, replid}.
local clocks = {}

-- A channel by its key; or nil, and why there is none.
local function channel_of(key)
  local known = channels[key]
  if known then return known end
  local internal, publish, channel = parse_channel_key(key)
  if not internal then return nil, publish end
  -- A partition's clock is remembered for its channels: there are never more.
  if remembered >= MAX_REMEMBERED then channels, clocks, remembered = {}, {}, 0 end
  local clock_key = internal .. "clock"
  local clock = clocks[clock_key] or {key = clock_key}
  known = {
    publish = publish,
    last_key = internal .. "last:" .. channel,
    once_prefix = internal .. "once:" .. channel .. ":",
    internal = internal,
    name = channel,
    clock = clock,
  }
  channels[key], clocks[clock_key], remembered = known, clock, remembered + 1
  return known
end

-- Makes the numbers of `clock` those of the text that is stored; false where that is no clock.
local function read_clock(clock, stored)
  if stored and clock.text == stored then return true end
  clock.text = nil
  local ms, seq, epoch, replid = parse_clock(stored)
  if not ms then return false end
  clock.text, clock.ms, clock.seq, clock.epoch, clock.replid = stored, ms, seq, epoch, replid
  return true
end

-- The same for a channel's last position; one that is absent, or is none, is 0-0.
local function read_last(channel, stored)
  if stored and channel.last == stored then return end
  local ms, seq = parse_position(stored or "")
  if not ms then ms, seq = 0, 0 end
  channel.last, channel.ms, channel.seq, channel.previous = stored or nil, ms, seq, position(ms, seq)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Whether a payload closes its channel: it is an envelope, and has "end": true.
--
-- Gateways and this text have to agree on every payload, so this reads exactly what `Envelope::parse` reads, and every
-- disagreement is a bug of one of them. cjson will not do: it takes more than JSON, forgets duplicate keys and limits
-- depth. Functions named after_... take the index where a thing begins, and give the one after it; nil where it is
-- malformed.

local QUOTE, BACKSLASH, COMMA, COLON, OPEN_LIST, OPEN_OBJECT, CLOSE_OBJECT = 34, 92, 44, 58, 91, 123, 125

-- Index of the first byte at or after i that is not white space.
local function token(text, i)
  return (text:find("[^ \t\n\r]", i))
end

-- i is behind the opening quote.
local function after_string(text, i)
  while true do
    i = text:find('["\\%z\1-\31]', i)
    if not i then return nil end
    local c = text:byte(i)
    if c == QUOTE then return i + 1 end
    if c ~= BACKSLASH then return nil end
    i = text:match('^["\\/bfnrt]()', i + 1) or text:match("^u[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f]()", i + 1)
    if not i then return nil end
  end
end

-- What a number may not have after it, such as the 1 of "01", is malformed for whoever reads on.
local function after_scalar(text, i)
  if text:byte(i) == QUOTE then return after_string(text, i + 1) end
  local number = text:match("^%-?0()", i) or text:match("^%-?[1-9][0-9]*()", i)
  if not number then
    return text:match("^true()", i) or text:match("^null()", i) or text:match("^false()", i)
  end
  number = text:match("^%.[0-9]+()", number) or number
  return text:match("^[eE][+-]?[0-9]+()", number) or number
end

-- Of an object's member, up to its value; i is where white space before the key may begin. Gives the key's place too.
local function after_key(text, i)
  i = token(text, i)
  if not i or text:byte(i) ~= QUOTE then return nil end
  local after = after_string(text, i + 1)
  local colon = after and token(text, after)
  if not colon or text:byte(colon) ~= COLON then return nil end
  return token(text, colon + 1), i + 1, after - 2
end

-- Any value. Lists and objects that are open are kept in a table, since depth on the stack would have a limit.
local function after_value(text, i)
  local open, depth = {}, 0
  while i do
    local c = text:byte(i)
    local complete = c ~= OPEN_LIST and c ~= OPEN_OBJECT
    if complete then
      i = after_scalar(text, i)
    else
      depth = depth + 1
      open[depth] = c
      i = i + 1
    end
    -- Close all that ends here.
    while true do
      if not i or depth == 0 then return i end
      i = token(text, i)
      if not i then return nil end
      c = text:byte(i)
      if c ~= open[depth] + 2 then break end -- ] and } are both two after their openings
      depth = depth - 1
      complete = true
      i = i + 1
    end
    -- Then comes another, unless this is the first of a list or object.
    if complete then
      if c ~= COMMA then return nil end
      i = i + 1
    end
    if open[depth] == OPEN_OBJECT then i = after_key(text, i) else i = token(text, i) end
  end
end

local ESCAPED = {b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}

-- What a string stands for, given what is between its quotes; for an escape beyond ASCII just a "?". Nil where a
-- surrogate has no partner: that is JSON, but no text.
local function unescape(raw)
  if not raw:find("\\", 1, true) then return raw end
  local parts, from = {}, 1
  while true do
    local at = raw:find("\\", from, true)
    parts[#parts + 1] = raw:sub(from, at and at - 1)
    if not at then return table.concat(parts) end
    local c = raw:sub(at + 1, at + 1)
    from = at + 2
    if c ~= "u" then
      parts[#parts + 1] = ESCAPED[c] or c
    else
      local unit = tonumber(raw:sub(at + 2, at + 5), 16)
      from = at + 6
      if unit >= 0xDC00 and unit <= 0xDFFF then return nil end
      if unit >= 0xD800 and unit <= 0xDBFF then
        from = raw:match("^\\u[Dd][C-Fc-f][0-9A-Fa-f][0-9A-Fa-f]()", from)
        if not from then return nil end
      end
      parts[#parts + 1] = unit < 128 and string.char(unit) or "?"
    end
  end
end

-- At most 64 bits; i is where it begins. Fractions and exponents are malformed for whoever reads on.
local function after_u64(text, i)
  local digits, after = text:match("^([1-9][0-9]*)()", i)
  if not digits then return text:match("^0()", i) end
  if #digits < 20 then return after end
  local high, low = tonumber(digits:sub(1, 10)), tonumber(digits:sub(11))
  local fits = #digits == 20 and (high < 1844674407 or high == 1844674407 and low <= 3709551615)
  return fits and after or nil
end

-- Reads the value of each key that an envelope may have; nil also for a value that it may not have.
local AFTER_FIELD = {
  event = function(text, i)
    local after = text:byte(i) == QUOTE and after_string(text, i + 1)
    local name = after and unescape(text:sub(i + 1, after - 2))
    if not name or name:find("[\r\n]") or name:sub(1, 4) == "sse." then return nil end
    return after
  end,
  data = function(text, i)
    local after = after_value(text, i)
    if not after or text:byte(i) == QUOTE and not unescape(text:sub(i + 1, after - 2)) then return nil end
    return after
  end,
  retry = after_u64,
  ["end"] = function(text, i)
    return text:match("^true()", i) or text:match("^false()", i)
  end,
}

local function closes(text)
  -- Most payloads end here, at little cost. A key that is written otherwise has an escape for one of e, n and d.
  if not text:find('"end"', 1, true) and not text:find("\\u006", 1, true) then return false end
  -- The least that an envelope with "end": true has; data may well have it too.
  if not text:find('"[ \t\n\r]*:[ \t\n\r]*true') then return false end
  local i = token(text, 1)
  if not i or text:byte(i) ~= OPEN_OBJECT then return false end
  if not is_utf8(text) then return false end
  local seen, ends = {}, false
  repeat
    local value, from, to = after_key(text, i + 1)
    if not value then return false end
    local key = unescape(text:sub(from, to))
    local after_field = AFTER_FIELD[key]
    if not after_field or seen[key] then return false end
    seen[key] = true
    if key == "end" then ends = text:byte(value) == 116 end -- t
    i = after_field(text, value)
    i = i and token(text, i)
    if not i then return false end
  until text:byte(i) ~= COMMA
  return ends and text:byte(i) == CLOSE_OBJECT and not token(text, i + 1)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- The functions.

-- Why it is no idempotency key; else its part of a name.
local function wrong_once(once)
  if #once > MAX_ONCE then return "once has " .. #once .. " bytes, the limit is " .. MAX_ONCE end
  -- Most have nothing but printable ASCII, without % and :.
  if once:find("^[!-$&-9;-~]+$") then return nil, once end
  if has_space_or_control(once) then return "once has a control character or white space" end
  return nil, (once:gsub("%%", "%%25"):gsub(":", "%%3A"))
end

-- In this order: all checks, all reads, all writes, the message. Redis undoes nothing, so what may fail comes first: of
-- the writes only the first can be refused (no memory, a read-only server). An ACL must allow all of them or none.
local function sse_publish(keys, args)
  local wrong = miscounted("sse_publish", keys, args, 7)
  if wrong then return wrong end
  local key, payload, once, detail = keys[1], args[1], args[4], args[5] == "1"
  local channel, why = channel_of(key)
  if not channel then return refuse("sse_publish", why) end
  if not payload then return refuse("sse_publish", "payload is missing") end
  local history = whole(args[2], DEFAULT_HISTORY, MAX_HISTORY)
  if not history then return refuse("sse_publish", "history is not a whole number from 1 to 4294967295") end
  local ttl = whole(args[3], DEFAULT_TTL, MAX_TTL)
  if not ttl then return refuse("sse_publish", "ttl_s is not a whole number from 1 to 3153600000") end
  local once_key
  if once and once ~= "" then
    local wrong_key, name = wrong_once(once)
    if wrong_key then return refuse("sse_publish", wrong_key) end
    once_key = channel.once_prefix .. name
  end
  local once_ttl = whole(args[6], DEFAULT_ONCE_TTL, MAX_ONCE_TTL)
  if not once_ttl then return refuse("sse_publish", "once_ttl_s is not a whole number from 1 to 600") end

  local call, clock = redis.call, channel.clock
  local stored
  if once_key then stored = call("MGET", clock.key, channel.last_key, once_key)
  else stored = call("MGET", clock.key, channel.last_key) end

  -- A repetition of what was published already gets the same position, and nobody hears it again.
  if once_key and stored[3] then
    local same, epoch = stored[3]:match("^([0-9]+%-[0-9]+) ([0-9A-Za-z]+)$")
    if same and args[7] == "1" then
      -- WAIT is for what its own connection has written.
      local refused = redis.pcall("SET", once_key, stored[3], "KEEPTTL").err
      if refused then return {err = refused} end
    end
    if same then return detail and {same, 0, 1, epoch} or {same, 0} end
  end

  local now, time = read_time()
  local ms, seq, epoch, replid = now, 0
  local is_known = clock.text and clock.text == stored[1]
  if read_clock(clock, stored[1]) then
    ms, seq, epoch, replid = clock.ms, clock.seq, clock.epoch, clock.replid
    if not is_known and channel.publish == "SPUBLISH" then
      -- Whether the clock came here or was here is to be seen from what it says before it is written.
      local here, before = read_replid()
      if replid ~= here then replid = has_moved_here(ms, replid, before, now) and here or NOBODY end
    end
  else
    replid = read_replid()
    epoch = name_epoch(replid, time)
  end

  -- The event before it: the top of the stream where the last position is gone, or where somebody else added an entry.
  -- Looked for from the end, where there is nothing to go through.
  read_last(channel, stored[2])
  local last_ms, last_seq, previous = channel.ms, channel.seq, channel.previous
  local expiry = call("PTTL", key) -- ms left; -1: persistent, -2: no such key
  local top = expiry ~= -2 and call("XREVRANGE", key, "+", "(" .. previous, "COUNT", "1")[1]
  if top then
    previous = top[1]
    last_ms, last_seq = parse_position(previous)
    if not last_ms then return refuse("sse_publish", "key has an entry id beyond 9007199254740991") end
  end
  if last_ms > ms or last_ms == ms and last_seq > seq then ms, seq = last_ms, last_seq end
  ms, seq = advance(ms, seq, now)
  local at = position(ms, seq)
  local last = closes(payload) and at .. " end" or at

  call("XADD", key, "MAXLEN", "~", history, at, "p", previous, "d", payload)
  local ttl_ms = ttl == DEFAULT_TTL and DEFAULT_TTL_MS or tonumber(ttl) * 1000
  if expiry == -2 or expiry >= 0 and expiry < ttl_ms then
    call("EXPIRE", key, ttl)
    expiry = ttl_ms
  end
  -- The last position never goes before the history, or a reader could not tell whether it has read all of it.
  if expiry == -1 then
    call("SET", channel.last_key, last)
  else
    call("SET", channel.last_key, last, "PX", expiry > LAST_TTL_MS and expiry or LAST_TTL)
  end
  if once_key then call("SET", once_key, at .. " " .. epoch, "EX", once_ttl) end
  local text = at .. " " .. epoch .. " " .. replid
  call("SET", clock.key, text)
  clock.text, clock.ms, clock.seq, clock.epoch, clock.replid = text, ms, seq, epoch, replid
  channel.last, channel.ms, channel.seq, channel.previous = last, ms, seq, at
  local receivers = call(channel.publish, key, "\30" .. at .. " " .. previous .. " " .. epoch .. "\n" .. payload)
  return detail and {at, receivers, 0, epoch} or {at, receivers}
end

local function sse_clock(keys, args)
  local wrong = miscounted("sse_clock", keys, args, 3)
  if wrong then return wrong end
  local key, node, trusting, doubted = keys[1], args[1], args[2], args[3]
  local prefix, partition = key:match("^([0-9A-Za-z_-]+)%.{([0-9]+)}%.clock$")
  local internal, publish = place(prefix or key:match("^([0-9A-Za-z_-]+)%.clock$"), partition)
  if not internal then return refuse("sse_clock", publish or CLOCK_KEY) end
  if node == "" then node = nil end
  if node and (#node > MAX_NODE or node:find("[^0-9A-Za-z_.-]")) then
    return refuse("sse_clock", "node is not 1 to 64 of A-Z a-z 0-9 _ . -")
  end
  if trusting and trusting ~= "" and trusting ~= "0" and trusting ~= "1" then
    return refuse("sse_clock", "trusting is not 0 or 1")
  end
  if doubted and (#doubted > MAX_EPOCH or doubted:find("[^0-9A-Za-z]")) then
    return refuse("sse_clock", "doubted is not an epoch")
  end

  local stored = redis.call("GET", key)
  local now, time = read_time()
  local replid, before = read_replid()
  local ms, seq, epoch, stored_replid = parse_clock(stored)
  local raised = false
  if epoch and epoch ~= doubted and stored_replid ~= replid and trusting ~= "1"
    and has_moved_here(ms, stored_replid, before, now) then
    stored_replid = replid
  end
  if epoch and epoch == doubted or stored_replid ~= replid and not (epoch and trusting == "1") then
    -- Another life of the data: acknowledged events may be missing. No position of the old epoch may be one of the new.
    ms, seq = advance(ms or 0, seq or 0, now)
    epoch = name_epoch(replid, time)
  elseif stored_replid ~= replid then
    -- The same life on another server, which may lack what nobody acknowledged, and be behind in time: no position of that may be one of
    -- what comes.
    ms, seq = (now > ms and now or ms) + TRUST_MARGIN_MS, 0
  elseif now - ms > MAX_CLOCK_AGE_MS then
    -- So that the cursors of quiet channels do not grow old.
    ms, seq, raised = now, 0, true
  end
  local at = position(ms, seq)
  local clock = at .. " " .. epoch .. " " .. replid
  if clock ~= stored then
    local refused = redis.pcall("SET", key, clock).err
    -- A script is refused where memory is full. What is merely old may stay so: readers had better be answered.
    if refused and not (raised and refused:find("OOM", 1, true)) then return {err = refused} end
    if refused then at, clock = stored:match("^[^ ]+"), stored end
  end
  if node then redis.call(publish, internal .. "node:" .. node, clock) end
  return {at, epoch, now}
end

local function sse_cancel(keys, args)
  local wrong = miscounted("sse_cancel", keys, args, 0)
  if wrong then return wrong end
  -- The name of the cancellation itself stands for its channel.
  local key = keys[1]:gsub("^([0-9A-Za-z_-]+)%.cancel:([^{])", "%1:%2")
  key = key:gsub("^([0-9A-Za-z_-]+)%.({[0-9]+})%.cancel:", "%1:%2:")
  local internal, publish, channel = parse_channel_key(key)
  if not internal then return refuse("sse_cancel", publish) end

  local cancel_key, now = internal .. "cancel:" .. channel, ("%.0f"):format(read_time())
  redis.call("SET", cancel_key, now, "EX", CANCEL_TTL)
  return redis.call(publish, cancel_key, now)
end

local USER_KEY = "key is not <prefix>.user:<id> or <prefix>.{<n>}.user:<id>" .. PARTS

-- Why these are no arguments of sse_lease.
local function wrong_leases(args)
  if #args < 3 then return "a lease is missing" end
  if #args - 2 > MAX_LEASES then return "leases are " .. #args - 2 .. ", the limit is " .. MAX_LEASES end
  if args[1] ~= "0" and not whole(args[1], nil, MAX_LEASE_MS) then
    return "ttl_ms is not a whole number from 0 to " .. MAX_LEASE_MS
  end
  if args[2] ~= "" and not whole(args[2], nil, MAX_LEASE_LIMIT) then
    return "limit is not a whole number from 1 to " .. MAX_LEASE_LIMIT
  end
  for i = 3, #args do
    if args[i] == "" or #args[i] > MAX_LEASE then
      return "lease has " .. #args[i] .. " bytes, the limit is 1 to " .. MAX_LEASE
    end
    if args[i]:find("[^!-~]") then return "lease has a byte that is not printable ASCII, or a space" end
  end
end

local function sse_lease(keys, args)
  if #keys ~= 1 then return refuse("sse_lease", "keys are " .. #keys .. ", the limit is 1") end
  local key = keys[1]
  local prefix, partition, user = key:match("^([0-9A-Za-z_-]+)%.{([0-9]+)}%.user:(.*)$")
  if not prefix then prefix, user = key:match("^([0-9A-Za-z_-]+)%.user:(.*)$") end
  local internal, why = place(prefix, partition)
  if not internal then return refuse("sse_lease", why or USER_KEY) end
  -- An id is what may stand behind `user:` in a channel's name.
  local wrong = wrong_channel("user:" .. user)
  if wrong or user == "" then return refuse("sse_lease", (wrong or USER_KEY):gsub("channel", "user", 1)) end
  wrong = wrong_leases(args)
  if wrong then return refuse("sse_lease", wrong) end

  local call, ttl, limit = redis.call, tonumber(args[1]), tonumber(args[2])
  if ttl == 0 then
    local gone = call("ZREM", key, unpack(args, 3))
    return {1, call("ZCARD", key), gone}
  end
  local now = read_time()
  call("ZREMRANGEBYSCORE", key, "-inf", ("%.0f"):format(now))
  local held, add, new = call("ZCARD", key), {}, 0
  local until_ms = ("%.0f"):format(now + ttl)
  for i = 3, #args do
    if not call("ZSCORE", key, args[i]) then new = new + 1 end
    add[#add + 1], add[#add + 2] = until_ms, args[i]
  end
  if limit and held + new > limit then return {0, held, 0} end
  new = call("ZADD", key, unpack(add))
  if call("PTTL", key) < ttl then call("PEXPIRE", key, args[1]) end
  return {1, held + new, new}
end

local PRESENCE_KEY = "key is not <prefix>:presence:<id> or <prefix>:{<n>}:presence:<id>" .. PARTS
local LEAVING_KEY = "key is not <prefix>.leaving or <prefix>.{<n>}.leaving" .. PARTS

local function ms(number)
  return ("%.0f"):format(number)
end

-- An event on the channel of that key; false where that is refused, as by a server without memory.
local function tell_presence(key, event, user)
  local payload = '{"event":"' .. event .. '","data":{"user":' .. cjson.encode(user) .. "}}"
  local ok, reply = pcall(sse_publish, {key}, {payload, PRESENCE_HISTORY, PRESENCE_TTL})
  return ok and not reply.err
end

local function is_grace(text)
  return text == "0" or whole(text, nil, MAX_LEASE_MS)
end

local function sse_presence(keys, args)
  if #keys ~= 1 then return refuse("sse_presence", "keys are " .. #keys .. ", the limit is 1") end
  local key = keys[1]
  local channel, why = channel_of(key)
  if not channel then return refuse("sse_presence", why) end
  local user = channel.name:match("^presence:(.+)$")
  if not user then return refuse("sse_presence", PRESENCE_KEY) end
  local wrong = #args < 3 and "a lease is missing" or wrong_leases({args[1], "", unpack(args, 3)})
  if wrong then return refuse("sse_presence", wrong) end
  if not is_grace(args[2]) then return refuse("sse_presence", "grace_ms is not a whole number from 0 to " .. MAX_LEASE_MS) end

  local call, now, ttl, grace = redis.call, read_time(), tonumber(args[1]), tonumber(args[2])
  local present, leaving = channel.internal .. "present:" .. user, channel.internal .. "leaving"
  call("ZREMRANGEBYSCORE", present, "-inf", ms(now))
  local looked = call("ZSCORE", leaving, user)
  if ttl == 0 then
    local gone = call("ZREM", present, unpack(args, 3))
    local held = call("ZCARD", present)
    if held == 0 and looked then call("ZADD", leaving, ms(now + grace), user) end
    return {1, held, gone}
  end
  local add = {}
  for i = 3, #args do
    add[#add + 1], add[#add + 2] = ms(now + ttl), args[i]
  end
  local new = call("ZADD", present, unpack(add))
  if call("PTTL", present) < ttl then call("PEXPIRE", present, args[1]) end
  -- Who could not be told of is not online yet: the next renewal tries again.
  if looked or tell_presence(key, "online", user) then
    if not looked or tonumber(looked) < now + ttl + grace then call("ZADD", leaving, ms(now + ttl + grace), user) end
  end
  return {1, call("ZCARD", present), new}
end

local function sse_absent(keys, args)
  local wrong = miscounted("sse_absent", keys, args, 2)
  if wrong then return wrong end
  local key = keys[1]
  local prefix, partition = key:match("^([0-9A-Za-z_-]+)%.{([0-9]+)}%.leaving$")
  if not prefix then prefix = key:match("^([0-9A-Za-z_-]+)%.leaving$") end
  local internal, why = place(prefix, partition)
  if not internal then return refuse("sse_absent", why or LEAVING_KEY) end
  if not args[1] or not is_grace(args[1]) then
    return refuse("sse_absent", "grace_ms is not a whole number from 0 to " .. MAX_LEASE_MS)
  end
  local limit = whole(args[2], nil, MAX_ABSENT)
  if not limit then return refuse("sse_absent", "limit is not a whole number from 1 to " .. MAX_ABSENT) end

  local call, now, grace = redis.call, read_time(), tonumber(args[1])
  local channels_of = prefix .. (partition and ":{" .. partition .. "}:presence:" or ":presence:")
  local users = call("ZRANGEBYSCORE", key, "-inf", ms(now), "LIMIT", "0", limit)
  for i = 1, #users do
    local user = users[i]
    local last = call("ZREVRANGE", internal .. "present:" .. user, "0", "0", "WITHSCORES")[2]
    if last and tonumber(last) > now then
      call("ZADD", key, ms(tonumber(last) + grace), user)
    elseif tell_presence(channels_of .. user, "offline", user) then
      call("ZREM", key, user)
    end
  end
  return #users
end

local NODES_KEY = "key is not <prefix>.nodes or <prefix>.{0}.nodes, prefix 1 to 32 of A-Z a-z 0-9 _ -"

-- Of what is kept, `{incarnation, value, ...}`: those who are there, as {incarnation, TIME in ms, text, ...}, and the
-- incarnations of those who are not.
local function nodes_of(kept, now)
  local there, over = {}, {}
  for i = 1, #kept, 2 do
    local said, ends, text = kept[i + 1]:match("^([0-9]+) ([0-9]+) (.*)$")
    if said and tonumber(ends) > now then
      there[#there + 1], there[#there + 2], there[#there + 3] = kept[i], tonumber(said), text
    else
      over[#over + 1] = kept[i]
    end
  end
  return there, over
end

-- Why these are not arguments of sse_nodes.
local function wrong_node(args)
  if #args ~= 3 then return "arguments are " .. #args .. ", the limit is 0 or 3" end
  if not whole(args[1], nil, MAX_LEASE_MS) then return "ttl_ms is not a whole number from 1 to " .. MAX_LEASE_MS end
  if args[2] == "" or #args[2] > MAX_NODE or args[2]:find("[^0-9A-Za-z_.-]") then
    return "incarnation is not 1 to 64 of A-Z a-z 0-9 _ . -"
  end
  if #args[3] > MAX_NODE_TEXT then return "text has " .. #args[3] .. " bytes, the limit is " .. MAX_NODE_TEXT end
end

local function sse_nodes(keys, args)
  if #keys ~= 1 then return refuse("sse_nodes", "keys are " .. #keys .. ", the limit is 1") end
  local key, call = keys[1], redis.call
  local prefix = key:match("^([0-9A-Za-z_-]+)%.nodes$") or key:match("^([0-9A-Za-z_-]+)%.{0}%.nodes$")
  if not place(prefix) then return refuse("sse_nodes", NODES_KEY) end
  local wrong = #args > 0 and wrong_node(args)
  if wrong then return refuse("sse_nodes", wrong) end

  local now = read_time()
  local there, over = nodes_of(call("HGETALL", key), now)
  if #args == 0 then return {now, unpack(there)} end
  -- Whoever says something sees to it that those who are gone do not stay.
  if #over > 0 then call("HDEL", key, unpack(over)) end
  local incarnation, text = args[2], args[3]
  if text == "" then
    call("HDEL", key, incarnation)
    return call("HLEN", key)
  end
  if #there / 3 >= MAX_NODES and call("HEXISTS", key, incarnation) == 0 then
    return refuse("sse_nodes", "nodes are " .. #there / 3 .. ", the limit is " .. MAX_NODES)
  end
  local ttl = tonumber(args[1])
  call("HSET", key, incarnation, ("%.0f %.0f %s"):format(now, now + ttl, text))
  if call("PTTL", key) < ttl then call("PEXPIRE", key, args[1]) end
  return call("HLEN", key)
end

-- ---------------------------------------------------------------------------------------------------------------------

if redis.register_function then
  redis.register_function("sse_publish", sse_publish)
  -- A server without memory still has readers, who ask for the clock, and producers, who had better stop.
  redis.register_function({function_name = "sse_clock", callback = sse_clock, flags = {"allow-oom"}})
  redis.register_function({function_name = "sse_cancel", callback = sse_cancel, flags = {"allow-oom"}})
  redis.register_function({function_name = "sse_lease", callback = sse_lease, flags = {"allow-oom"}})
  redis.register_function({function_name = "sse_presence", callback = sse_presence, flags = {"allow-oom"}})
  redis.register_function({function_name = "sse_absent", callback = sse_absent, flags = {"allow-oom"}})
  redis.register_function({function_name = "sse_nodes", callback = sse_nodes, flags = {"allow-oom"}})
  return
end

-- As a script: the function's name comes before its arguments.
local functions = {
  sse_publish = sse_publish, sse_clock = sse_clock, sse_cancel = sse_cancel, sse_lease = sse_lease,
  sse_nodes = sse_nodes, sse_presence = sse_presence, sse_absent = sse_absent,
}
local called = functions[table.remove(ARGV, 1)]
if not called then
  return refuse("sse", "the first argument is not the name of a function, such as sse_publish")
end
return called(KEYS, ARGV)
