"""What can be quoted of a text, and what it is shown with."""

import pytest

from serving.answering.sentences import PieceKind, pieces, split_sentences


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, (0, len(text)))]


def shown(text: str) -> list[str]:
    return [text[slice(*piece.shown)] for piece in pieces(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "北京是首都。它很大！真的吗？是的；好",
            ["北京是首都。", "它很大！", "真的吗？", "是的；", "好"],
        ),
        ("他说：“你好。”然后走了。", ["他说：“你好。”", "然后走了。"]),
        ("It costs 3.5 euros. Dr. Lee paid.", ["It costs 3.5 euros.", "Dr. Lee paid."]),
        ("See https://a.b/c.d?e=1. Then stop!", ["See https://a.b/c.d?e=1.", "Then stop!"]),
        ("In the U.S. Supreme Court, e.g. today.", ["In the U.S. Supreme Court, e.g. today."]),
        ("He lives in the U.S. The law is new.", ["He lives in the U.S.", "The law is new."]),
        ("Born on Jan. 3 by J. R. R. Tolkien.", ["Born on Jan. 3 by J. R. R. Tolkien."]),
        ("使用 Docker 3.1 版。Run it.", ["使用 Docker 3.1 版。", "Run it."]),
    ],
)
def test_sentences_are_cut_in_both_languages(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_sentence_that_leans_on_the_one_before_is_shown_with_it() -> None:
    assert shown("Brindle is a server. It listens on port 7410.") == [
        "Brindle is a server.",
        "Brindle is a server. It listens on port 7410.",
    ]
    assert shown("青禾是系统。它的端口是 6201。")[1] == "青禾是系统。它的端口是 6201。"


def test_headings_are_not_quoted() -> None:
    assert shown("Installation\n\nRun the setup.") == ["Run the setup."]


def test_a_piece_knows_the_nearest_heading_above() -> None:
    text = "Intro first.\n\nHotels\n\nUp to 90 euros. Keep the bill.\n\nMeals\n\n- lunch\n- dinner"

    headings = [piece.heading and text[slice(*piece.heading)] for piece in pieces(text)]

    assert headings == [None, "Hotels", "Hotels", "Meals", "Meals"]


def test_a_sentence_with_a_colon_is_shown_with_what_it_introduces() -> None:
    text = "The options are:\n\n- fast\n- slow\n\nThe end."

    assert shown(text)[0] == "The options are:\n\n- fast\n- slow"
    assert shown(text)[-1] == "The end."


def test_the_items_of_a_long_list_stand_alone_with_its_introduction_as_lead() -> None:
    introduction = "Three editions are sold:"
    items = [f"- Edition {n} {'with many more words' * 8}" for n in range(3)]
    text = introduction + "\n\n" + "\n".join(items)

    found = pieces(text)[1:]

    assert [text[slice(*piece.shown)] for piece in found] == items
    assert [piece.lead and text[slice(*piece.lead)] for piece in found] == [introduction] * 3


def test_a_table_row_keeps_its_header_as_lead() -> None:
    text = "| Name | Port |\n| --- | --- |\n| http | 80 |\n| https | 443 |"

    found = pieces(text)

    assert [piece.kind for piece in found] == [PieceKind.ROW, PieceKind.ROW]
    assert text[slice(*found[1].shown)] == "| https | 443 |"
    assert found[1].lead is not None
    assert text[slice(*found[1].lead)] == "| Name | Port |\n| --- | --- |"


def test_code_is_shown_with_the_sentence_that_explains_it() -> None:
    text = "Start the server.\n\ndocker run -d brindle \\\n  -p 7410:7410\n\nThen wait."

    found = pieces(text)

    assert [piece.kind for piece in found] == ["sentence", "code", "sentence"]
    assert text[slice(*found[1].shown)].startswith("Start the server.\n\ndocker run")


def test_long_code_is_cut_at_the_end_of_a_line() -> None:
    code = "\n".join(f"value_{n} = {n};" for n in range(200))

    (piece,) = pieces(code)

    assert piece.shown[1] - piece.shown[0] <= 800
    assert code[piece.shown[1]] == "\n"


@pytest.mark.parametrize("text", ["", " \n\n ", "\n\n\n\n", "| |", "。", "- \n- "])
def test_texts_with_little_in_them(text: str) -> None:
    for piece in pieces(text):
        assert 0 <= piece.shown[0] <= piece.span[0] < piece.span[1] <= piece.shown[1] <= len(text)
