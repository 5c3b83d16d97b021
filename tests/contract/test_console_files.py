"""The console's routes and files, as browsers get them."""

import re
from pathlib import Path

import pytest

from app.api.console.routes import PAGE, SCRIPT, STYLE
from app.artifact import read_manifest, write_manifest
from tests.fakes import Running, run_service, write_version

pytestmark = pytest.mark.anyio

FILES = (PAGE, SCRIPT, STYLE)
PICTURE = b"\x89PNG of the report"


async def test_files_are_kept_by_tag(running: Running) -> None:
    """A browser keeps the files, asks again with their tag, and gets 304 if they are the same."""
    for path in FILES:
        first = await running.client.get(path)
        assert first.status_code == 200
        assert first.headers.get_list("Cache-Control") == ["no-cache"]
        assert first.headers.get_list("X-Content-Type-Options") == ["nosniff"]
        tag = first.headers["ETag"]
        again = await running.client.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == tag
        changed = await running.client.get(path, headers={"If-None-Match": '"other"'})
        assert changed.content == first.content


async def test_page_is_protected(running: Running) -> None:
    """Only the console's own files run, nothing is inline, and nobody may frame the page."""
    page = await running.client.get(PAGE)
    policy = dict(
        part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; ")
    )
    assert "unsafe" not in str(policy)
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! src=)", page.text)
    assert page.headers["X-Frame-Options"] == "DENY"


async def test_size_and_hosts(running: Running) -> None:
    """All files have under 80 kB together, and name no other host."""
    contents = [(await running.client.get(path)).text for path in FILES]
    assert sum(len(content.encode()) for content in contents) < 80_000
    addresses = {name for content in contents for name in re.findall(r"https?://[\w.]+", content)}
    assert addresses == {"http://www.w3.org"}  # the namespace of SVG, which nothing loads


async def test_link_to_metrics(running: Running, fake_models: Path) -> None:
    """The page links to the metrics where they are on its port, and tells its script so."""
    link = 'href="/metrics"'
    assert link in (await running.client.get(PAGE)).text
    async with run_service(fake_models, metrics_port=9000) as service:
        assert link not in (await service.client.get(PAGE)).text


async def test_off(fake_models: Path) -> None:
    """With CONSOLE=off there is no console and no picture; the other routes stay."""
    async with run_service(fake_models, console="OFF") as service:
        for path in (*FILES, "/console/pictures/lstm/2/roc.png"):
            assert (await service.client.get(path)).status_code == 404
        assert (await service.client.get("/docs")).status_code == 200


async def test_pictures(tmp_path: Path) -> None:
    """Pictures of the report that the manifest lists are served, and nothing else."""
    folder = write_version(tmp_path, "lstm", 2)
    (folder / "report").mkdir()
    for name in ("roc.png", "gone.png", "metrics.json"):
        (folder / "report" / name).write_bytes(PICTURE)
    write_manifest(folder, read_manifest(folder))
    async with run_service(tmp_path) as service:
        (folder / "report" / "gone.png").unlink()
        (folder / "report" / "new.png").write_bytes(PICTURE)
        picture = await service.client.get("/console/pictures/lstm/2/roc.png")
        assert (picture.status_code, picture.content) == (200, PICTURE)
        assert picture.headers["Content-Type"] == "image/png"
        for path in (
            *("lstm/1/roc.png", "lstm/2/new.png", "lstm/2/gone.png", "lstm/2/metrics.json"),
            *("lstm/2/..%2Fmanifest.json", "none/1/roc.png", "lstm/two/roc.png"),
        ):
            response = await service.client.get(f"/console/pictures/{path}")
            assert response.status_code == 404
            assert response.headers["Content-Type"] == "application/problem+json"
