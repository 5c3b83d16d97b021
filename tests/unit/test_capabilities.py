from collections.abc import Sequence

import numpy as np
import pytest

from tests.deferred import deferred

with deferred():
    from training.quality.capabilities import (
        DIRECTION,
        INVARIANCE,
        MINIMUM,
        capability_tests,
        has_polarity,
        judge,
        suite_texts,
    )

TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")


def answer(positive: Sequence[float]) -> np.ndarray:
    """Probabilities of two classes."""
    return np.column_stack((1 - np.array(positive), positive))


def failures(found: dict) -> dict[str, tuple[int, int]]:
    return {
        test["about"]: (test["failed"], test["n"])
        for each in found["capabilities"].values()
        for test in each["tests"]
    }


def test_the_suite() -> None:
    """Eight capabilities, tests of three kinds, a few hundred to 2,000 filled-in texts."""
    tests = capability_tests()
    assert len({test.capability for test in tests}) == 8
    assert {test.kind for test in tests} == {MINIMUM, INVARIANCE, DIRECTION}
    assert 300 <= len(suite_texts()) <= 2_000
    assert not any(set("{}|\n") & set(text) for text in suite_texts())


def test_cases() -> None:
    """A test has at least 16 cases, all different; a changed text differs from its original."""
    for test in capability_tests():
        assert len(set(test.cases)) == len(test.cases) >= 16, test.about
        assert all((case.changed is None) == (test.kind == MINIMUM) for case in test.cases)
        assert all(case.text != case.changed for case in test.cases)


def test_the_suite_is_always_the_same() -> None:
    """Templates that are filled again give the same texts."""
    before = suite_texts()
    capability_tests.cache_clear()
    assert suite_texts() == before


def test_a_model_that_says_one_thing() -> None:
    """It passes what expects its label and every change, and fails what expects the other."""
    failed = failures(judge(TWO, answer([0.9] * len(suite_texts()))))
    kinds = {test.about: (test.kind, test.expect) for test in capability_tests()}
    for about, (kind, expect) in kinds.items():
        wrong = kind == MINIMUM and expect == "negative"
        assert failed[about] == (len_of(about) if wrong else 0, len_of(about)), about


def len_of(about: str) -> int:
    return next(len(test.cases) for test in capability_tests() if test.about == about)


def test_invariance() -> None:
    """A changed label fails, unless the probability moves by 0.1 at most."""
    test = next(test for test in capability_tests() if test.kind == INVARIANCE)
    first, second = test.cases[0], test.cases[1]
    values = dict.fromkeys(suite_texts(), 0.9)
    values |= {first.text: 0.54, first.changed: 0.46, second.text: 0.56, second.changed: 0.44}
    assert failures(judge(TWO, answer(list(values.values()))))[test.about][0] == 1


def test_direction() -> None:
    """A probability may rise, and fall by 0.1 at most."""
    test = next(test for test in capability_tests() if test.kind == DIRECTION)
    values = dict.fromkeys(suite_texts(), 0.7)
    for case, moved in zip(test.cases, (0.75, 0.61, 0.59), strict=False):
        values[case.text], values[case.changed] = 0.7, moved
    assert test.expect == "positive"
    assert failures(judge(TWO, answer(list(values.values()))))[test.about][0] == 1


def test_neutral_answers() -> None:
    """Of three classes, neutral is no positive answer, and it is not negative."""
    failed = failures(judge(THREE, np.tile([0.1, 0.8, 0.1], (len(suite_texts()), 1))))
    assert failed["a denied complaint is not negative"][0] == 0
    assert failed["the verdict after but is positive"] == (32, 32)


def test_rates() -> None:
    """A capability has the sum of its tests, their rate, and its 95 % interval."""
    for each in judge(TWO, answer([0.9] * len(suite_texts())))["capabilities"].values():
        assert each["n"] == sum(test["n"] for test in each["tests"])
        assert each["failure_rate"] == each["failed"] / each["n"]
        assert each["low"] <= each["failure_rate"] <= each["high"]


@pytest.mark.parametrize(("labels", "tested"), [(TWO, True), (THREE, True), (("1", "5"), False)])
def test_labels(labels: tuple[str, ...], *, tested: bool) -> None:
    """Models with both polar labels can be tested."""
    assert has_polarity(labels) == tested
