"""What a document is: separators by name and of one's own, the spaces that are removed and counted, prompts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.data.documents import Division, check_found, find_division, indented, show_ends
from microgpt.errors import UserError

TEXT = "\n  one \n\ttwo\n \n\n\nthree\f\n\u3000four\u3000\n"


def divide(text: str, document: str = "auto", strip: str = "auto", at_once: bool = True) -> tuple[list[str], int]:
    """The documents, and the number of characters stripped. `at_once`: as in discrete mode."""
    changes = Counter[str]()
    division = find_division(document, strip, "line" if at_once else "record", at_once)
    return division.divide(text, changes), changes["stripped"]


def test_only_a_newline_ends_a_line_and_no_other_character_is_lost() -> None:
    text = "a b\u2028c d\ne\x0bf\x0cg\x1ch\x1di\x1ej\x85k\u2029l\n"
    assert divide(text) == (["a b\u2028c d", "e\x0bf\x0cg\x1ch\x1di\x1ej\x85k\u2029l"], 0)
    assert divide(text, at_once=False) == ([text.removesuffix("\n")], 0)


@pytest.mark.parametrize(
    ("document", "strip", "expected", "stripped"),
    [
        ("line", "both", ["one", "two", "three\f", "\u3000four\u3000"], 5),
        ("line", "right", ["  one", "\ttwo", "three\f", "\u3000four\u3000"], 2),
        ("line", "none", ["  one ", "\ttwo", "three\f", "\u3000four\u3000"], 0),
        ("record", "right", ["  one\n\ttwo", "three\f\n\u3000four\u3000"], 5),
        ("record", "both", ["one\ntwo", "three\f\n\u3000four\u3000"], 8),
        ("record", "none", ["  one \n\ttwo", "three\f\n\u3000four\u3000"], 0),
        ("whole", "right", ["  one\n\ttwo\n\n\n\nthree\f\n\u3000four\u3000"], 3),
        ("whole", "none", [TEXT.removesuffix("\n")], 0),
        ("two", "right", ["  one\n", "three\f\n\u3000four\u3000"], 0),
    ],
)
def test_spaces_and_tabs_are_stripped_and_counted(
    document: str, strip: str, expected: list[str], stripped: int
) -> None:
    if document == "two":  # its parts: "\n  one \n\t" and "\n \n\n\nthree…"
        assert divide(TEXT, document, strip)[0] == ["  one", "three\f\n\u3000four\u3000"]
    else:
        assert divide(TEXT, document, strip) == (expected, stripped)


def test_spaces_before_lines_are_stripped_by_default_only_where_each_line_is_a_document() -> None:
    assert divide("  a\n\tb\n")[0] == ["a", "b"]
    assert divide("  a\n\tb\n", "record")[0] == divide("  a\n\tb\n", at_once=False)[0] == ["  a\n\tb"]
    assert divide("  a\n\tb\n", "line", at_once=False)[0] == ["  a", "\tb"]


@given(text=st.text("ab \t\n", max_size=40), cut=st.integers(0, 40))
def test_a_text_that_is_cut_after_a_blank_line_has_the_same_documents_and_counts(text: str, cut: int) -> None:
    place = text.find("\n\n", cut) + 2
    whole, parts = divide(text, "record"), [divide(part, "record") for part in (text[:place], text[place:])]
    if place > 1:
        assert (parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]) == whole


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize(
    ("separator", "text"),
    [
        ("\\n>", ">seq1 a -> b\nACGT\nGG\n>seq2\nTTT"),
        ("\\n%\\n", "seq1 a -> b\nACGT\nGG\n%\nseq2\nTTT\n%"),
        ("<|end|>", "seq1 a -> b\nACGT\nGG<|end|>\nseq2\nTTT<|end|>"),
        ("\\n\\t\\n", "seq1 a -> b\nACGT\nGG\n\t\nseq2\nTTT"),
    ],
)
def test_a_separator_of_ones_own_is_found_at_the_ends_of_the_text_as_well(separator: str, text: str, end: str) -> None:
    changes = Counter[str]()
    documents = find_division(separator, "auto", "line", True).divide(text + end, changes)
    assert documents == ["seq1 a -> b\nACGT\nGG", "seq2\nTTT"]
    check_found(separator, changes, "key")
    assert +changes in (Counter(), Counter(stripped=1))  # the newline after <|end|>


def test_a_separator_that_the_corpus_does_not_hold_is_refused() -> None:
    for document, hint in (("lines", "did you mean dataset.document=line?"), ("##", "dataset.document=whole")):
        changes = Counter[str]()
        find_division(document, "auto", "line", True).divide("a\nb\n", changes)
        with pytest.raises(UserError, match=f"dataset.document={document}: dataset.path=x does not hold") as error:
            check_found(document, changes, "dataset.path=x")
        assert hint in str(error.value)
    with pytest.raises(UserError, match="needs a separator"):
        find_division("", "auto", "line", True)


def test_a_raw_text_is_cut_at_separators_alone() -> None:
    assert Division("\n\n", "right").parts("a \n\n\nb") == ["a ", "b"]
    assert Division("\n>", "right").parts("a\n>b>c") == ["a", "b>c"]
    assert Division("\x1e", "right").parts("a\n\nb") == ["a\n\nb"]


def test_a_prompt_begins_a_document_with_or_without_a_separator_before_it() -> None:
    fasta = Division("\n>", "right")
    assert (
        fasta.without_separator(">seq") == fasta.without_separator("\n>seq") == fasta.without_separator("seq") == "seq"
    )
    assert Division("\n\n", "right").without_separator("\n\na") == "\n\na"


def test_lines_of_a_sample_are_indented_and_the_end_of_a_whole_document_is_not() -> None:
    assert indented("a\n\nb") == "  a\n  \n  b"
    assert indented("a\x1eb\nc") == "  a\n⏎\n  b\n  c"
    assert show_ends("a\x1eb") == "a\n⏎\nb"
