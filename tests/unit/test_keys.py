"""Who may ask, and how often."""

import hashlib
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from app.api.keys import MAX_KEYS, OPEN_PATHS, Key, Keys, find_keys, make_key, read_keys
from app.errors import InvalidInput, RateExceeded, Unauthorized
from tests.fakes import ManualClock, run_service

KEY, OTHER = "vk_SECRET", "vk_OTHER_SECRET"


def line(name: str, key: str, *rate: str) -> str:
    return " ".join((name, hashlib.sha256(key.encode()).hexdigest(), *rate)) + "\n"


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"valence"), (b"authorization", b"Bearer " + key.encode())]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("# of the shops\n\n" + line("shop", KEY))
    return path


@pytest.fixture
def slow_file(file: Path) -> Path:
    """The key may be used once in two seconds."""
    file.write_text(line("shop", KEY, "0.5"))
    return file


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(file: Path, clock: ManualClock) -> Keys:
    return Keys(file, clock=clock)


def admitted(keys: Keys, key: str = KEY) -> bool:
    """Whether a request with a key may pass now."""
    try:
        keys.admit(bearer(key))
    except (Unauthorized, RateExceeded):
        return False
    return True


# --- who may ask


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer k")], [b"k"]),
        ([(b"authorization", b"bearer  k ")], [b"k"]),
        ([(b"x-api-key", b"k")], [b"k"]),
        ([(b"authorization", b"Basic a:b"), (b"x-api-key", b"k")], [b"k"]),
        ([(b"authorization", b"Bearer k"), (b"x-api-key", b"k")], [b"k", b"k"]),
        ([(b"authorization", b"Bearer")], []),
        ([(b"authorization", b"Bearerk")], []),
        ([(b"cookie", b"k")], []),
    ],
)
def test_where_a_key_is(headers: list[tuple[bytes, bytes]], found: list[bytes]) -> None:
    """A key comes as a bearer token or in X-API-Key; other schemes are somebody else's."""
    assert find_keys(headers) == found


@pytest.mark.parametrize(
    "headers",
    [
        [],
        bearer(OTHER),
        bearer(""),
        bearer(hashlib.sha256(KEY.encode()).hexdigest()),
        bearer(KEY * 100),
        bearer(KEY) + bearer(KEY),
        [*bearer(KEY), (b"x-api-key", OTHER.encode())],
    ],
)
def test_refused(keys: Keys, headers: list[tuple[bytes, bytes]]) -> None:
    """No key, a wrong one, its hash and two at once are refused in the same words."""
    with pytest.raises(Unauthorized, match="must carry one valid key") as error:
        keys.admit(headers)
    assert "SECRET" not in str(error.value)


def test_every_key_is_compared(
    file: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is compared with all others in constant time, wherever it is in the file."""
    file.write_text("".join(line(f"n{n}", f"k{n}") for n in range(5)))
    keys = Keys(file, clock=clock)
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    for key in ("k0", "k4", "none"):
        admitted(keys, key)
    assert len(compared) == 15


def test_made_key_is_valid(tmp_path: Path) -> None:
    """A made key has 256 random bits, and no two are equal."""
    made = {make_key() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 3 + 43


# --- how often


def test_rate(file: Path, clock: ManualClock) -> None:
    """A key has as many requests at once as its rate has per second, then one at a time."""
    file.write_text(line("shop", KEY, "4") + line("any", OTHER))
    keys = Keys(file, clock=clock)
    assert [admitted(keys) for _ in range(6)] == [True] * 4 + [False] * 2
    assert all(admitted(keys, OTHER) for _ in range(100))
    clock.advance(0.25)
    assert [admitted(keys) for _ in range(2)] == [True, False]
    clock.advance(60)
    assert [admitted(keys) for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(("rate", "seconds"), [("0.1", 10), ("1", 1), ("8", 0.125)])
def test_retry_after(file: Path, clock: ManualClock, rate: str, seconds: float) -> None:
    """A refusal says when the next request is free, and refused requests do not put it off."""
    file.write_text(line("shop", KEY, rate))
    keys = Keys(file, clock=clock)
    while admitted(keys):
        pass
    for _ in range(3):
        with pytest.raises(RateExceeded, match=f"{rate} times per second") as error:
            keys.admit(bearer(KEY))
    assert error.value.retry_after_s == pytest.approx(seconds)
    clock.advance(error.value.retry_after_s)
    assert admitted(keys)


def test_rate_of_all_processes(file: Path, clock: ManualClock) -> None:
    """Processes that were forked share what is used of a rate."""
    file.write_text(line("shop", KEY, "3"))
    keys = Keys(file, clock=clock)
    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        child = fork.Process(target=admitted, args=(keys,))
        child.start()
        child.join()
    assert [admitted(keys) for _ in range(2)] == [True, False]


def test_overuse_is_logged_once_a_minute(
    file: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names a key that is used too often once a minute, and never quotes it."""
    file.write_text(line("shop", KEY, "1"))
    keys = Keys(file, clock=clock)
    for _ in range(3):
        for _ in range(10):
            admitted(keys)
        clock.advance(31)
    logged = [vars(r) for r in caplog.records if r.getMessage() == "a key is used too often"]
    assert [(event["key"], event["refused"]) for event in logged] == [("shop", 1), ("shop", 18)]
    assert "SECRET" not in str(logged)


# --- the file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "1 to 1000 keys. Received: 0"),
        ("# none\n", "Received: 0"),
        (f"shop {KEY}\n", "line 1 must be NAME SHA256 [REQUESTS_PER_SECOND]"),
        (f"{KEY}\n", "line 1 must be NAME"),
        (line("shop", KEY)[:-5], "line 1 must be NAME"),
        ("\n" + line("a shop", KEY), "line 2 must be NAME"),
        (line("shöp", KEY), "line 1 must be NAME"),
        (line("shop", KEY, "1", "2"), "line 1 must be NAME"),
        (line("shop", KEY, "many"), "line 1: the requests per second must be a number from 0.001"),
        (line("shop", KEY, "0"), "from 0.001 to 1,000,000"),
        (line("shop", KEY, "nan"), "from 0.001"),
        (line("shop", KEY) + line("shop", OTHER), "each name must be in the file of keys once"),
        (line("shop", KEY) + line("other", KEY), "each hash must be"),
        ("#" * 2**20 + "\n", "at most 1048576 bytes"),
        ("\0\ufffd" * 10, "line 1 must be"),
    ],
)
def test_damaged_file(file: Path, content: str, words: str) -> None:
    """A damaged file is refused with its name, the line and the rule; no line is quoted."""
    file.write_text(content)
    with pytest.raises(InvalidInput) as error:
        read_keys(file)
    assert words in str(error.value)
    assert "SECRET" not in str(error.value).replace(str(file), "")


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be read is refused with the reason of the system."""
    with pytest.raises(InvalidInput, match="can be read: No such file"):
        Keys(tmp_path / "none")
    with pytest.raises(InvalidInput, match="can be read: Is a directory"):
        Keys(tmp_path)


def test_as_many_keys_as_allowed(file: Path) -> None:
    """The last key of the largest file is admitted, and has a rate."""
    file.write_text("".join(line(f"n{n}", f"k{n}", "1") for n in range(MAX_KEYS)))
    keys = Keys(file)
    assert [admitted(keys, f"k{MAX_KEYS - 1}") for _ in range(2)] == [True, False]
    assert read_keys(file)[-1].rate == 1


def replace(path: Path, content: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(content)
    aside.rename(path)


def swap_link(path: Path, content: str) -> None:
    """As the kubelet does for a Secret."""
    target = path.with_suffix(f".{len(content)}")
    target.write_text(content)
    link = path.with_suffix(".link")
    link.symlink_to(target)
    link.rename(path)


@pytest.mark.parametrize("write", [replace, swap_link, Path.write_text])
def test_reload(keys: Keys, file: Path, clock: ManualClock, write: Any) -> None:
    """A changed file is in effect within a second, however it was changed."""
    write(file, line("new", OTHER, "9"))
    os.utime(file, ns=(1, 1))
    assert admitted(keys, KEY)
    clock.advance(1)
    assert [admitted(keys, key) for key in (KEY, OTHER)] == [False, True]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text(f"shop {KEY}")])
def test_damaged_reload(
    keys: Keys, file: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    """A file that is damaged or gone leaves the keys as they are; it is logged and counted once."""
    loads: list[bool] = []
    keys.on_load = loads.append
    caplog.set_level(logging.INFO)
    damage(file)
    for _ in range(3):
        clock.advance(1)
        assert admitted(keys)
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "SECRET" not in str(vars(caplog.records[0]))
    replace(file, line("new", OTHER))
    clock.advance(1)
    assert admitted(keys, OTHER)
    assert loads == [False, True]


def test_another_key_at_the_same_place(file: Path, clock: ManualClock) -> None:
    """A key that takes the place of a used one waits for no longer than its own rate says."""
    file.write_text(line("slow", KEY, "0.001"))
    keys = Keys(file, clock=clock)
    assert admitted(keys)
    replace(file, line("fast", OTHER, "2"))
    clock.advance(1)
    with pytest.raises(RateExceeded) as error:
        keys.admit(bearer(OTHER))
    assert error.value.retry_after_s == pytest.approx(0.5)


def test_keys_are_not_shown() -> None:
    """A key object has a hash, never the key."""
    assert set(Key.__slots__) == {"name", "digest", "rate", "refused", "logged_at"}


# --- the service


@pytest.mark.anyio
async def test_routes(fake_models: Path, file: Path) -> None:
    """With keys every route but the open ones needs one, routes that do not exist too."""
    key = {"Authorization": f"Bearer {KEY}"}
    async with run_service(fake_models, api_keys_file=file) as service:
        for path in sorted(OPEN_PATHS):
            assert (await service.client.get(path)).status_code == 200
        for path in ("/models", "/models/lstm", "/metrics"):
            refused = await service.client.get(path)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await service.client.get(path, headers=key)).status_code == 200
        for path, status in (("/predict", 405), ("/none", 404), ("/livez//", 404)):
            assert (await service.client.get(path)).status_code == 401
            assert (await service.client.get(path, headers=key)).status_code == status
        assert service.sample("rejected_total", reason="unauthorized") == 6


@pytest.mark.anyio
async def test_prediction_with_a_key(fake_models: Path, slow_file: Path) -> None:
    """A prediction needs a key, is refused above its rate, and a refused body is not parsed."""
    async with run_service(fake_models, api_keys_file=slow_file) as service:
        answers = [
            await service.client.post("/predict", content=body, headers=headers)
            for body, headers in (
                (b"[", {}),
                (b'{"text": "good"}', {"X-API-Key": KEY}),
                (b"[", {"X-API-Key": KEY}),
            )
        ]
        assert [answer.status_code for answer in answers] == [401, 200, 429]
        assert answers[2].headers["Retry-After"] == "2"
        assert answers[2].json()["type"] == "urn:valence:problem:rate-limit"
        assert service.sample("rejected_total", reason="rate_limit") == 1


@pytest.mark.anyio
async def test_document_with_keys(fake_models: Path, file: Path) -> None:
    """With keys the OpenAPI document has the schemes, and 401 and 429 for every closed route."""
    async with run_service(fake_models, api_keys_file=file) as service:
        document = (await service.client.get("/openapi.json")).json()
    async with run_service(fake_models) as service:
        without = (await service.client.get("/openapi.json")).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "api-key"}
    for path, route in document["paths"].items():
        for operation in route.values():
            closed = path not in OPEN_PATHS
            assert ("security" in operation) == closed
            assert {"401", "429"} <= {*operation["responses"]} or not closed
    for word in ("securitySchemes", "rate-limit", "unauthorized"):
        assert word not in str(without)
