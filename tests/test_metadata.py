"""What describes the project is consistent: versions, dependencies, links."""

from __future__ import annotations

import re
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

import fastrnn

ROOT = Path(__file__).parents[1]
DESCRIBED = metadata("fastrnn")
URLS = dict(url.split(", ") for url in DESCRIBED.get_all("Project-URL") or [])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_there_is_one_version() -> None:
    assert version("fastrnn") == fastrnn.__version__
    assert re.findall(r"^version: (.*)$", read("CITATION.cff"), re.MULTILINE) == [fastrnn.__version__]
    # The first heading is this version's, or what comes after it.
    headings = re.findall(r"^## (\S+) ", read("CHANGELOG.md"), re.MULTILINE)
    assert fastrnn.__version__ in headings[:2]


def test_the_dates_of_the_release_agree() -> None:
    heading = re.search(rf"^## {re.escape(fastrnn.__version__)} \((.*)\)$", read("CHANGELOG.md"), re.MULTILINE)
    assert heading
    released = re.findall(r"^date-released: (.*)$", read("CITATION.cff"), re.MULTILINE)
    assert released == ([] if heading[1] == "unreleased" else [heading[1]])


def test_little_is_required() -> None:
    required = {re.split(r"[^\w-]", line)[0] for line in requires("fastrnn") or [] if "extra ==" not in line}
    assert required == {"numpy", "safetensors"}


def test_nothing_names_torch() -> None:
    """A bare torch brings gigabytes of CUDA."""
    assert not [line for line in requires("fastrnn") or [] if line.startswith("torch")]


def links(text: str) -> set[str]:
    """Return where the links of a page in Markdown lead."""
    text = re.sub(r"^```.*?^```|`[^`]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    defined = dict(re.findall(r"^\[([^\]]+)\]: +(\S+)$", text, re.MULTILINE))
    by_name = [name for name in defined if re.search(rf"\[{re.escape(name)}\](?![(\[:])", text)]
    return {*re.findall(r"\]\(([^)\s]+)\)", text), *(defined[name] for name in by_name)}


def test_the_readme_can_be_read_anywhere() -> None:
    """On a package index, too, where a relative link leads nowhere; and what it links to is there."""
    repository = URLS["Repository"]
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/")
    own = re.compile(rf"(?:{re.escape(repository)}/(?:blob|tree)|{re.escape(raw)})/main/([^#]+)")
    leading = links(read("README.md"))
    assert len(leading) > 10
    for target in leading:
        assert target.startswith("https://"), target
        if target.startswith((repository, raw)):
            place = own.match(target)
            assert place, target
            assert (ROOT / place[1]).exists(), target
    assert leading & {target for target in leading if target.startswith(raw)}, "the picture"


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("*.md")], ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        if not re.match(r"https?:|mailto:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_links_of_the_metadata_lead_into_the_repository() -> None:
    assert set(URLS) >= {"Repository", "Documentation", "Changelog", "Issues"}
    for target in URLS.values():
        assert target.startswith(URLS["Repository"])
        if "/blob/main/" in target:
            assert (ROOT / target.partition("/blob/main/")[2]).exists(), target
