"""Keeps a model's thinking apart from its answer, where its server leaves both in one text. Pure."""

from typing import Final

OPENING: Final = "<think>"
CLOSING: Final = "</think>"


class ThinkingSplitter:
    """Takes a text as it streams and tells <think>...</think> at its beginning from what follows.

    With `thinking` it begins in the thinking: some chat templates put the opening mark into the prompt.
    """

    def __init__(self, thinking: bool = False) -> None:
        self._mark: str | None = CLOSING if thinking else OPENING  # The one that is next, if any.
        self._waiting = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) of what can be told now; what may be a part of a mark waits."""
        reasoning = ""
        self._waiting += text
        if self._mark == OPENING:
            begun = self._waiting.lstrip()
            if OPENING.startswith(begun[: len(OPENING)]) and len(begun) < len(OPENING):
                return "", ""
            is_thinking = begun.startswith(OPENING)
            self._mark = CLOSING if is_thinking else None
            self._waiting = begun.removeprefix(OPENING) if is_thinking else self._waiting
        if self._mark == CLOSING:
            reasoning, closing, rest = self._waiting.partition(CLOSING)
            kept = 0 if closing else _overlap(reasoning, CLOSING)
            self._waiting = rest if closing else reasoning[len(reasoning) - kept :]
            reasoning = reasoning[: len(reasoning) - kept]
            if not closing:
                return reasoning, ""
            self._mark = None
            self._waiting = self._waiting.lstrip()
        answer, self._waiting = self._waiting, ""
        return reasoning, answer

    def finish(self) -> tuple[str, str]:
        """The rest: thinking that was never closed is no answer."""
        rest, self._waiting = self._waiting, ""
        return (rest, "") if self._mark == CLOSING else ("", rest)


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of the text that may be the beginning of the mark."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)
