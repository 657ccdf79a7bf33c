-- wrk's part of the turn benches: chat turns round a window of conversations, each of which takes so
-- many before the window moves on; and the figures as one line of JSON. Nothing is sent once the time
-- (or the turns) are over, so that what was sent is answered before wrk ends. One thread (-t1).
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long s, ns; } bench_time;
int clock_gettime(int clock, bench_time *t);
]]
local at = ffi.new("bench_time")
local function now()
    ffi.C.clock_gettime(1, at) -- CLOCK_MONOTONIC
    return tonumber(at.s) + tonumber(at.ns) / 1e9
end

local function setting(name)
    return tonumber(os.getenv(name))
end
local warmup, seconds = setting("BENCH_WARMUP"), setting("BENCH_SECONDS")
local window, each = setting("BENCH_WINDOW"), setting("BENCH_TURNS_EACH")
local turns = setting("BENCH_TURNS") -- at most
local body = os.getenv("BENCH_BODY")
local LONG = 3600 * 1000 -- ms

local paths, headers = {}, {}
sent, answered, counted, bad, elapsed, first_bad = 0, 0, 0, 0, 0, ""
local from
local tried = false

local thread
function setup(t)
    thread = t
end

-- The plan's lines: PATH TOKEN.
function init()
    local of = {}
    for line in io.lines(os.getenv("BENCH_PLAN")) do
        local path, token = line:match("^(%S+) (%S+)$")
        of[token] = of[token] or {
            ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. token }
        paths[#paths + 1] = path
        headers[#paths] = of[token]
    end
end

local function over()
    return sent >= turns or (from and now() >= from + seconds)
end

function delay()
    from = from or now() + warmup
    return over() and LONG or 0
end

function request()
    local n = sent
    local i = (math.floor(n / (window * each)) * window + n % window) % #paths + 1
    if tried then sent = n + 1 end
    tried = true -- wrk looks at a first one, and does not send it
    return wrk.format("POST", paths[i], headers[i], body)
end

function response(status, _, text)
    local t = now()
    if status ~= 200 or not text:find('"assistant_message"', 1, true) then
        bad = bad + 1
        if first_bad == "" then first_bad = status .. " " .. text:sub(1, 300) end
        return
    end
    answered = answered + 1
    if t >= from and t < from + seconds then
        counted = counted + 1
        elapsed = t - from
    end
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', " ") .. '"'
end

function done(summary, latency)
    local e = summary.errors
    local n = thread:get("counted")
    local took = thread:get("sent") >= turns and thread:get("elapsed") or seconds
    io.write(string.format(
        '\n{"n":%d,"sent":%d,"counted":%d,"rate":%.1f,"p50_ms":%.3f,"p99_ms":%.3f,"bad":%d,' ..
        '"broken":%d,"first_bad":%s}\n',
        thread:get("answered"), thread:get("sent"), n, took > 0 and n / took or 0,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, thread:get("bad"),
        e.connect + e.read + e.write + e.timeout, quoted(thread:get("first_bad"))))
end
