"""The bundled models in a real server, on each engine."""

import itertools
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load_tests.bench.explanations import CUT, cut
from load_tests.bench.processes import read_usage
from load_tests.corpus import texts
from tests.server import ROOT, ServerProcess

TEXT = "I went in expecting little, and for two hours I forgot where I was. See it."
OTHERS = list(itertools.islice(texts(seed=4), 31))
LONG = " ".join(["It goes on and on, from one room to the next, and nothing comes of it."] * 134)


@pytest.fixture(scope="module", params=["onnx", pytest.param("tensorflow", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A ready server with the bundled models."""
    with ServerProcess(ROOT / "models", "--engine", request.param) as server:
        server.wait_for("the service is ready")
        yield server


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_of_two_workers() -> None:
    """Two workers with every bundled model take 230 MB when ready, pages they share counted once.

    Loading gives back what it does not keep, and nothing of the supervisor is copied in vain.
    """
    options = ("--engine", "onnx", "--workers", "2", "--threads", "1")
    with ServerProcess(ROOT / "models", *options) as server:
        server.wait_for("the service is ready")
        usage = read_usage(server.process.pid)
    assert usage is not None
    assert usage.processes == 3
    assert usage.resident_bytes < 230e6


def ask(server: ServerProcess, **body: Any) -> Any:
    """The response to one request."""
    with server.client() as client:
        return client.post("/predict", json=body).raise_for_status().json()


def test_every_bundled_version_is_ready(server: ServerProcess) -> None:
    """Each bundled version passes its checks on each engine, golden rows included."""
    with server.client() as client:
        models = client.get("/models").json()["models"]
    states = {(m["name"], v["version"]): v["state"] for m in models for v in m["versions"]}
    assert states == {
        ("bow", 3): "ready",
        ("bow-ngrams", 1): "ready",
        ("lstm", 6): "ready",
        ("sentiment3", 2): "ready",
        ("tweets-lstm", 1): "ready",
    }


@pytest.mark.parametrize("model", ["lstm", "sentiment3", "bow", "bow-ngrams", "tweets-lstm"])
@pytest.mark.parametrize(
    "others", [OTHERS, [LONG]], ids=["31 other texts", "a text of 2,000 words"]
)
def test_answers_do_not_depend_on_the_batch(
    server: ServerProcess, model: str, others: list[str]
) -> None:
    """A text gets the same probabilities, within 1e-5, alone and in a batch with any others."""
    alone = ask(server, text=TEXT, model=model)["probabilities"]
    together = ask(server, texts=[*others, TEXT], model=model)["predictions"][-1]["probabilities"]
    assert together == pytest.approx(alone, abs=1e-5)


PLAIN = [
    ("A warm, funny and moving film. I loved every minute.", "positive"),
    ("Dull, clumsy and far too long. A waste of a good cast.", "negative"),
]
PLAIN_TWEETS = [
    ("He was the best on stage tonight, a great night and a great answer! #GOPDebate", "positive"),
    ("The moderators of Fox News are a disgrace and a joke. Terrible questions.", "negative"),
    ("Watch the #GOPDebate live tonight: http://example.org/live", "neutral"),
]


@pytest.mark.parametrize(
    ("model", "text", "label"),
    [
        *((model, *plain) for model in ("lstm", "bow", "bow-ngrams") for plain in PLAIN),
        *(("tweets-lstm", *plain) for plain in PLAIN_TWEETS),
    ],
)
def test_plain_verdicts(server: ServerProcess, model: str, text: str, label: str) -> None:
    """Texts with a plain sentiment get the right label."""
    assert ask(server, text=text, model=model)["label"] == label


REVIEWS = [
    "My sister chose this one on a rainy Sunday and I only sat down because the kitchen was being"
    " painted. A retired clockmaker gets a letter from a town he left forty years ago, takes a "
    "night train, and spends three days with people who remember him differently than he does. "
    "That is more or less the plot. What makes it <b>wonderful</b> is the patience of it. The "
    "scenes in the station cafe are beautifully lit, the old couple at the next table could carry"
    " a film of their own, and the last conversation on the bridge is one of the most moving "
    "things I saw this year. The music stays out of the way. I called my father afterwards and "
    "told him to see it.<br /><br />The copy we had came with a second disc of interviews, which "
    "we have not watched yet.",
    "We rented this because the cover promised a thriller in a lighthouse, and there is a "
    "lighthouse, so somebody kept half of the promise. Two brothers and the girlfriend of one of "
    "them drive up the coast, their car stops, a stranger with a lamp lets them in. From then on "
    "people walk up and down the same staircase for an hour and a half. The dialogue is terrible,"
    " the editing is worse, and by the time the secret in the cellar came out nobody in our "
    "living room was still paying attention. The actor who plays the stranger was in that series "
    "about the harbour police. Here he looks bored, and I cannot blame him. It is a dull, clumsy "
    "waste of a good location, and the ending is an insult. Our neighbours have the tape now; "
    "they may keep it.",
    "I read the book on a long bus ride in the summer and was not sure that anybody should film "
    "it. It has four narrators, two of them children, and most of what happens is said in "
    "letters. The director has cut the uncle and moved the house to the sea, and both are fine by"
    " me. The girl who plays Marta is excellent, funny and stubborn and never cute. There is a "
    "long dinner in the middle, with eleven people at the table, that is a small masterpiece of "
    "timing. The part in the city could have been shorter. Still, I enjoyed every minute by the "
    "sea, and when the lights came on the woman beside me was laughing and drying her eyes at "
    "once. We talked about it all the way to the tram and missed two of them. Take somebody "
    "along.",
    "Someone at work lent me the whole trilogy, and I had a cold, so I got as far as the second "
    "part. It begins where the first one stopped, on the roof of the hospital, with the nurse "
    "holding the wrong suitcase. Then we get a desert, a wedding, a car park and a submarine, in "
    "that order, and at no point does anybody explain who the man with the parrot is. I would "
    "forgive that if it were exciting. It is boring. The effects look cheap, the jokes are "
    "embarrassing, and the hero says the same awful line three times as if it might become funny."
    " The only thing I liked was the parrot. My colleague says that the third part explains "
    "everything. I gave the box back on Monday, made some tea and read the newspaper from front "
    "to back instead.",
]


@pytest.mark.parametrize("model", ["lstm", "bow"])
def test_explanations_name_the_words_that_matter(server: ServerProcess, model: str) -> None:
    """Cutting the ten highest words moves the probability five times as much as ten others."""
    choices = random.Random(1)
    highest, others = [], []
    for text in REVIEWS:
        answer = ask(server, text=text, model=model, explain=True)
        label, words = answer["label"], answer["explanation"]
        assert [text[word["start"] : word["end"]] for word in words[:3]] == text.split()[:3]
        ranked = sorted(words, key=lambda word: -word["contribution"])[:CUT]
        cuts = [
            cut(text, each) for each in (ranked, *(choices.sample(words, CUT) for _ in "12345"))
        ]
        predictions = ask(server, texts=cuts, model=model)["predictions"]
        moved = [
            abs(answer["probabilities"][label] - prediction["probabilities"][label])
            for prediction in predictions
        ]
        highest.append(moved[0])
        others.append(statistics.fmean(moved[1:]))
    assert statistics.fmean(highest) >= 5 * statistics.fmean(others)
