-- POSTs the lines of a file of request bodies, in turn.
--
--   python -m load_tests.bodies 500 > bodies.jsonl
--   BODIES=bodies.jsonl wrk -t1 -c64 -d20s --latency -s load_tests/predict.lua http://127.0.0.1:8000/predict
--
-- At the end: how many answers were wrong, and a line of JSON for programs. Latencies are in
-- microseconds; errors.status counts answers of 400 and above.

local requests = {}
local next_one = 0

function init(_)
  for line in io.lines(os.getenv("BODIES")) do
    table.insert(requests, wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line))
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency, _)
  local errors = summary.errors
  local wrong = errors.status + errors.timeout + errors.read
  io.write(string.format("answers that were not 200: %d\n", wrong))
  io.write(string.format(
    'result: {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, ' ..
    '"errors": {"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
