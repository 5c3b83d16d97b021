"""A report with figures of short texts and capabilities, made up."""

from tests.deferred import deferred

with deferred():
    from training.reports.report import Report


def figured_report(accuracy: float) -> "Report":
    """The report of a version that was scored on 100 test texts and on six short ones."""
    right = round(100 * accuracy)
    figures = {"accuracy": accuracy, "expected_calibration_error": 0.01}
    score = {
        "n": 4,
        "right": 3,
        "accuracy": 0.75,
        "low": 0.3,
        "high": 0.95,
        "wrong_and_sure": 1,
        "wrong_and_sure_share": 0.25,
        "calibration_error": 0.1,
        "neutral": 2,
        "neutral_unsure": 1,
    }
    only_neutral = {"n": 0, "right": 0, "wrong_and_sure": 0, "neutral": 2, "neutral_unsure": 1}
    rates = {"n": 8, "failed": 2, "failure_rate": 0.25, "low": 0.07, "high": 0.59}
    test = {"about": "denied praise", "kind": "minimum functionality", "n": 8, "failed": 2}
    split = {
        "of": "100 texts of imdb test",
        "metrics": figures,
        "confusion_matrix": [[right, 0], [100 - right, 0]],
    }
    return Report(
        title="tiny 1",
        labels=("negative", "positive"),
        metrics={"test": {"onnx": figures}},
        splits={"test": split},
        short_texts={"sets": {"ordinary": {**score, "kinds": {"neutral": only_neutral}}}},
        capabilities={"capabilities": {"negation": {**rates, "tests": [test]}}},
    )
