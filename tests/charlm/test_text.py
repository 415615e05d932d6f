"""Reading text, cutting it, and turning it into tokens and back."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn.charlm import text
from fastrnn.charlm.errors import TextError


def test_a_corpus_is_the_text_again() -> None:
    content = "Ünïcode, 漢字 e\u0301 🐈!\n" * 40
    corpus = text.make_corpus(content)
    assert corpus.vocabulary == "".join(sorted(set(content)))
    stretches = corpus.held_out.shape[1]
    kept = len(content) // stretches - len(corpus.held_out)
    again = ""
    for i in range(stretches):
        again += "".join(corpus.vocabulary[token] for token in corpus.train[i * kept : (i + 1) * kept])
        again += "".join(corpus.vocabulary[token] for token in corpus.held_out[:, i])
    again += "".join(corpus.vocabulary[token] for token in corpus.train[stretches * kept :])
    assert again == content


@pytest.mark.parametrize("length", [100, 101, 319, 5_000, 100_003])
def test_a_twentieth_is_held_out(length: int) -> None:
    corpus = text.make_corpus("abcdefghij" * (length // 10) + "x" * (length % 10))
    assert corpus.train.size + corpus.held_out.size == length
    assert len(corpus.held_out) >= 2
    assert 0.04 * length <= corpus.held_out.size <= 0.05 * length + 1


def test_of_a_long_text_no_more_is_held_out_than_it_takes() -> None:
    assert text.make_corpus("abcde" * 1_000_000).held_out.size == text.HELD_OUT_LIMIT


def test_thousands_of_different_characters() -> None:
    content = "".join(map(chr, range(0x4E00, 0x4E00 + 5_000))) * 2
    corpus = text.make_corpus(content)
    assert len(corpus.vocabulary) == 5_000
    assert corpus.train.dtype == np.uint16


def test_too_many_different_characters_are_an_error() -> None:
    content = "".join(chr(code) for code in range(0x10000, 0x10000 + text.LARGEST_VOCABULARY + 1))
    with pytest.raises(TextError, match="131073 different characters are too many"):
        text.make_corpus(content)


def test_one_different_character_will_do() -> None:
    assert text.make_corpus("a" * 200).vocabulary == "a"


def test_lone_surrogates_are_an_error() -> None:
    with pytest.raises(TextError, match="lone surrogate at character 3"):
        text.make_corpus("abc\ud800" * 50)


def test_characters_outside_of_the_vocabulary_are_named() -> None:
    assert text.encode_text("cab", "abc").tolist() == [2, 0, 1]
    with pytest.raises(TextError, match=r"never seen 'é' \(U\+00E9\)"):
        text.encode_text("abé", "abc")
    with pytest.raises(TextError, match="and 2 more"):
        text.encode_text("tuvwxyz", "abc")


def test_files_are_joined_and_line_ends_unified(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "b").write_bytes("drei\rñ".encode())
    assert text.read_files([str(tmp_path / "a"), str(tmp_path / "b")]) == "one\ntwo\ndrei\nñ"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"ab\0cd", "NUL byte at offset 2"),
        (b"ab\xffcd", "not UTF-8 text: bad byte 0xff at offset 2"),
        (b"ab\xed\xa0\x80", "not UTF-8 text: bad byte 0xed at offset 2"),  # a surrogate, encoded
        ("text".encode("utf-16"), "is not text"),
    ],
)
def test_files_that_are_not_text(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(TextError, match=message):
        text.read_file(str(tmp_path / "file"))


@pytest.mark.parametrize("path", ["missing", ".", "/dev/zero", "no\0name"])
def test_paths_that_are_not_files(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TextError):
        text.read_file(path)


def test_the_text_that_python_carries_repeats_no_paragraph() -> None:
    pytest.importorskip("pydoc_data.topics")
    name, content = text.builtin_text()
    assert "reference" in name
    assert len(content) > 300_000
    paragraphs = [paragraph.strip() for paragraph in content.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs)


def test_without_the_reference_the_library_is_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pydoc_data.topics":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    name, content = text.builtin_text()
    assert "standard library" in name
    assert 300_000 < len(content) <= text.BUILTIN_LIMIT
    assert "import" in content


def test_the_librarys_sources_are_python() -> None:
    content = text.library_sources()
    assert len(content) > text.BUILTIN_LIMIT
    assert content.count("\n    return ") > 1000
    assert text.library_sources() == content
