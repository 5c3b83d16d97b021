-- POSTs the lines of a file of request bodies, in turn.
--
--   python -m load_tests.bodies 500 > bodies.jsonl
--   BODIES=bodies.jsonl wrk -t1 -c64 -d20s --latency -s load_tests/predict.lua http://127.0.0.1:8000/predict

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

function done(summary, _, _)
  local wrong = summary.errors.status + summary.errors.timeout + summary.errors.read
  io.write(string.format("answers that were not 200: %d\n", wrong))
end
