-- wrk's request: POST the file that BENCH_BODY names; and one line of JSON about what was measured.
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*all")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"

local made

function init(args)
  made = wrk.format()
end

function request()
  return made
end

function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "late": %d, "p50": %.1f, "p90": %.1f, "p99": %.1f, "longest": %.1f}\n',
    summary.requests, summary.duration / 1e6, failed.status, failed.connect + failed.read + failed.write, failed.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
