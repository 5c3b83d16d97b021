import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from app.errors import DataError
from training.distillation.rated import RatedText, read_rated_texts

FILES = {
    "tweets_GroundTruth.txt": "1\t2.7\tFish &amp; chips :)\r\n2\t-1\tMeh. \n",
    "tweets_anonDataRatings.txt": "\ufeff1\t2.7\t1.09\t[2, 4, 1, 0]\n2\t-1\t0.9\t[-1, 0]\n",
    "amazonReviewSnippets_GroundTruth.txt": "1_1\t0\tmeh\n",
    "amazonReviewSnippets_anonDataRatings.txt": "1_1\t0\t0\t[0, 0]\n",
    "nytEditorialSnippets_GroundTruth.txt": "1_1\t0\tA fact.\n",
    "nytEditorialSnippets_anonDataRatings.txt": "1_1\t0\t0\t[0, 1, -1, 0]\n",
    "movieReviewSnippets_GroundTruth.txt": "1\t4\tA film.\n",
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of archives, as it is in the package index."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("package/additional/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    return path


def test_shares_of_the_people_who_rated(archive: Path) -> None:
    """Ratings become shares; equal words are one text; film snippets are left out."""
    found = {each.text: each for each in read_rated_texts(archive)}
    assert found.pop("Fish & chips :)") == RatedText("Fish & chips :)", 0.875, 0.75)
    assert found == {"meh": RatedText("meh", 0.5, 0.0), "A fact.": RatedText("A fact.", 0.5, 0.5)}


def test_measured_texts_are_left_out(archive: Path) -> None:
    """A text whose words are those of a measured text is not learned from."""
    found = read_rated_texts(archive, without=["Meh!", "fish, chips"])
    assert [each.text for each in found] == ["A fact."]


@pytest.mark.parametrize("content", ["empty", "other", "text"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    """Another archive, one without the ratings, and no archive get one sentence."""
    path = tmp_path / "other.zip"
    if content == "text":
        path.write_text("text")
    else:
        with zipfile.ZipFile(path, "w") as outer:
            outer.writestr("ICWSM_2014.tar.gz" if content == "other" else "x", b"")
    with pytest.raises(DataError, match=r"vaderSentiment 0\.5\. Received: another file"):
        read_rated_texts(path)
