"""How true explanations are, and what they cost. A client of a running service.

    python -m load_tests.bench.explanations http://127.0.0.1:8000 train.tsv.gz --model lstm

For each text, words are cut out of the text as it was sent: the ten with the highest contribution,
ten random ones, the next ten, ... Whether the ranks are those of leaving each word out of the whole
text is measured with `--agreement`, which takes a prediction for each word of each text.
"""

import argparse
import http.client
import json
import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from load_tests.bench.texts import read_texts

STEPS: Final = (1, 2, 5, 10, 20, 50)
"""So many words are cut out for the deletion curve."""
CUT: Final = 10
_RANDOM_CHOICES: Final = 5
_TEXTS_PER_REQUEST: Final = 64
_EXAMPLES: Final = 20
_LEAST: Final = 1e-9


class Client:
    """A connection to the service.

    Args:
        url: Of the service.
        model: The model that answers.
    """

    def __init__(self, url: str, model: str | None) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._model = {} if model is None else {"model": model}

    def ask(self, **body: Any) -> dict[str, Any]:
        """Send one request."""
        content = json.dumps(body | self._model)
        self._connection.request("POST", "/predict", content)
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise SystemExit(f"the service must answer. Received: {answer['detail']}")
        return answer

    def probabilities(self, texts: Sequence[str], label: str) -> list[float]:
        """The probability of a label for each text; one that is empty counts as a full stop."""
        found = []
        for start in range(0, len(texts), _TEXTS_PER_REQUEST):
            part = [text if text.strip() else "." for text in texts[start:][:_TEXTS_PER_REQUEST]]
            answers = self.ask(texts=part)["predictions"]
            found += [answer["probabilities"][label] for answer in answers]
        return found


def cut(text: str, words: Iterable[dict[str, Any]]) -> str:
    """A text without some of its words."""
    for word in sorted(words, key=lambda word: -word["start"]):
        text = text[: word["start"]] + " " + text[word["end"] :]
    return text


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks, where equal values share theirs."""
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end - 1) / 2
        start = end
    return ranks


def _log_odds(probability: float) -> float:
    return math.log(max(probability, _LEAST)) - math.log(max(1 - probability, _LEAST))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one model, and print the figures."""
    parser = argparse.ArgumentParser(description="Measure explanations.")
    parser.add_argument("url")
    parser.add_argument("data", type=Path, help="as the benchmark's --texts")
    parser.add_argument("--model")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--agreement", type=int, default=0, help="so many texts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    choices = random.Random(options.seed)  # noqa: S311 - the same words for the same seed
    client = Client(options.url, options.model)
    by_rank: dict[int, list[float]] = {count: [] for count in STEPS}
    by_chance: dict[int, list[float]] = {count: [] for count in STEPS}
    correlations: list[float] = []
    for number, text in enumerate(read_texts(options.data, options.texts, options.seed)):
        answer = client.ask(text=text, explain=True)
        label, words = answer["label"], answer["explanation"]
        before = answer["probabilities"][label]
        ranked = sorted(words, key=lambda word: -word["contribution"])
        for count in STEPS:
            if len(words) <= count:
                continue
            samples = [choices.sample(words, count) for _ in range(_RANDOM_CHOICES)]
            texts = [cut(text, chosen) for chosen in (ranked[:count], *samples)]
            after, *others = client.probabilities(texts, label)
            by_rank[count].append(before - after)
            by_chance[count].append(statistics.fmean(abs(before - other) for other in others))
        if number < options.agreement and len(words) > 1:
            left = client.probabilities([cut(text, [word]) for word in words], label)
            exact = [_log_odds(before) - _log_odds(value) for value in left]
            if len({*exact}) > 1 and len({word["contribution"] for word in words}) > 1:
                contributions = [word["contribution"] for word in words]
                correlations.append(rank_correlation(contributions, exact))
    for count in STEPS:
        if by_rank[count]:
            first, second = statistics.fmean(by_rank[count]), statistics.fmean(by_chance[count])
            print(  # noqa: T201
                f"{count:3} words cut: highest {first:.4f}, random {second:.4f} (absolute), "
                f"{first / second:.1f} times"
            )
    if correlations:
        print(  # noqa: T201
            f"rank correlation with leaving out of the whole text: mean "
            f"{statistics.fmean(correlations):.3f}, median {statistics.median(correlations):.3f}, "
            f"{len(correlations)} texts"
        )
    plain: list[float] = []
    explained: list[float] = []
    for text in read_texts(options.data, options.texts, options.seed)[:_EXAMPLES]:
        for explain, times in ((False, plain), (True, explained)):
            started = time.perf_counter()
            client.ask(text=text, explain=explain)
            times.append((time.perf_counter() - started) * 1e3)
    print(  # noqa: T201
        f"one request: {statistics.median(plain):.2f} ms plain, "
        f"{statistics.median(explained):.2f} ms explained"
    )


if __name__ == "__main__":
    main()
