"""A short run of what `make fuzz` runs for long: any bytes, in the body and on the connection."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing.harness import (
    HARNESSES,
    SEEDS,
    check_body,
    check_framing,
    check_table,
    check_tensors,
    check_timeout,
)

ALL_SEEDS = [(name, seed) for name, seeds in SEEDS.items() for seed in seeds]


@pytest.mark.parametrize(("name", "seed"), ALL_SEEDS)
def test_seeds(name: str, seed: bytes) -> None:
    """The seeds break no rule, whole or cut short."""
    for end in {*range(0, len(seed), 1 + len(seed) // 40), len(seed)}:
        HARNESSES[name](seed[:end])


seeds = st.sampled_from(SEEDS["framing"])
joined = st.lists(seeds.map(lambda s: s[1:]) | st.binary(max_size=8), max_size=4).map(b"".join)


@settings(max_examples=150, derandomize=True)
@given(st.integers(0, 255), joined, st.integers(0, 400), st.binary(max_size=4))
def test_connections(pieces: int, requests: bytes, at: int, noise: bytes) -> None:
    """Requests one behind the other, with a few bytes replaced, in any number of pieces."""
    check_framing(bytes([pieces]) + requests[:at] + noise + requests[at + len(noise) :])


@settings(max_examples=100, derandomize=True)
@given(st.sampled_from(SEEDS["body"]), st.integers(0, 100), st.binary(max_size=4))
def test_bodies(seed: bytes, at: int, noise: bytes) -> None:
    """A body with a few bytes replaced."""
    check_body(seed[:at] + noise + seed[at + len(noise) :])


@settings(max_examples=200, derandomize=True)
@given(st.sampled_from(SEEDS["tensors"]), st.integers(0, 300), st.binary(max_size=4))
def test_tensors(seed: bytes, at: int, noise: bytes) -> None:
    """An inference request, JSON or binary, with a few bytes replaced."""
    check_tensors(seed[:at] + noise + seed[at + len(noise) :])


@settings(max_examples=100, derandomize=True)
@given(
    st.lists(st.binary(max_size=9), max_size=6), st.integers(-1, 7), st.integers(-2, 2), st.binary()
)
def test_elements(elements: list[bytes], count: int, more: int, tail: bytes) -> None:
    """A binary tensor whose lengths, count and size need not be true."""
    blob = b"".join(len(each).to_bytes(4, "little") + each for each in elements) + tail[:2]
    parameters = {"binary_data_size": max(0, len(blob) + more)}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [count], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    check_tensors(b"%d\n%b%b" % (len(head), head, blob))


@settings(max_examples=50, derandomize=True)
@given(st.binary(max_size=12) | st.text("0123456789", max_size=12).map(str.encode))
def test_timeouts(header: bytes) -> None:
    """Any deadline."""
    check_timeout(header)


table_pieces = st.sampled_from(
    [
        b"good",
        b"bad,1",
        b'"',
        b'""',
        b",",
        b"\t",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\x85",
        b"\xff",
        b"{",
        b"}",
    ]
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(min_size=2, max_size=2), st.lists(table_pieces, max_size=30).map(b"".join))
def test_tables(options: bytes, content: bytes) -> None:
    """Files of quotation marks, delimiters, line feeds and a few words, with any options."""
    check_table(options + content)
