-- Sends the lines of a file as request bodies, in order and repeatedly.
--
--   python -m load_tests.bodies 500 > bodies.jsonl
--   BODIES=bodies.jsonl wrk -t1 -c64 -d20s --latency -s load_tests/predict.lua http://127.0.0.1:8000/predict
--
-- The benchmark sets REQUESTS instead, a file of whole requests.
--
-- At the end it prints the number of failed requests and a line of JSON. Latencies are in
-- microseconds; errors.status counts answers with status 400 and above.

local requests = {}
local sent = 0

function init(_)
  local whole = os.getenv("REQUESTS")
  if whole then
    read_requests(assert(io.open(whole, "rb")))
    return
  end
  for line in io.lines(os.getenv("BODIES")) do
    table.insert(requests, wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line))
  end
end

-- Each request, head and body, has a line with its size before it.
function read_requests(file)
  local size = file:read("*l")
  while size do
    table.insert(requests, file:read(tonumber(size)))
    size = file:read("*l")
  end
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function done(summary, latency, _)
  local errors = summary.errors
  local failed = errors.status + errors.timeout + errors.read
  io.write(string.format("failed requests: %d\n", failed))
  io.write(string.format(
    'result: {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, ' ..
    '"errors": {"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
