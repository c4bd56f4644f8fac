"""The lint rule for words finds what it is there for, and the tree has no finding."""

import pytest

from tools import words


def test_the_tree_has_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert words.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize("word", ["What", "Whether", "It", "those", "Nobody", "whose"])
def test_a_docstring_that_asks_or_points_is_found(word: str) -> None:
    source = f'X = 1\n"""{word} is done."""\n\ndef f():\n    """{word}, too."""\n'
    fault = f'a docstring begins with "{word}"'
    assert [*words.openings(source)] == [(2, fault), (5, fault)]


@pytest.mark.parametrize("text", ["Return the total.", "The total.", "`it` is the iterator.", ""])
def test_a_docstring_that_begins_with_a_verb_or_a_noun_is_not(text: str) -> None:
    assert [*words.openings(f'"""{text}"""\n')] == []


@pytest.mark.parametrize("word", ["he", "Him", "his", "himself"])
def test_a_person_who_is_a_man_is_found(word: str) -> None:
    assert [*words.men(f"The tutor\nand {word}.")] == [(2, f'"{word}": a person is "they", or has a role')]


def test_parts_of_words_and_quotations_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "QUOTED", ("son élève et his tutor",))
    assert [*words.men("the history of this chip: son élève et his tutor")] == []
