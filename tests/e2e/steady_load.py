"""A few clients that ask and upload without an end, and what each answer was: for faults under load."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import httpx

ANSWER_WITHIN_S = 60.0
"""Longer is a hang, also on a machine that is busy."""
CONDITION_WITHIN_S = 240.0
PAUSE_S = 0.1
UPLOAD_PAUSE_S = 0.5
"""Indexing must keep up on a machine that is busy."""
KINDS = ("search", "chat", "stream", "upload")
GOOD = (200, 202)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client saw. Times are monotonic seconds; status 0 is none: see `text`."""

    kind: str
    begun: float
    ended: float
    status: int
    headers: httpx.Headers
    text: str

    @property
    def good(self) -> bool:
        return self.status in GOOD

    @property
    def code(self) -> str:
        """The error's code; empty where it has not the shape of OpenAI's errors."""
        try:
            error = json.loads(self.text)["error"]
            assert error["message"]
            assert error["type"] == "server_error"
            return str(error["code"])
        except (ValueError, KeyError, TypeError, AssertionError):
            return ""


@dataclass
class Load:
    """Searches, chats, streamed chats and uploads; `uploaded` are the ids of documents that were taken."""

    url: str
    key: str = ""
    answers: list[Answer] = field(default_factory=list)
    uploaded: list[str] = field(default_factory=list)
    _asking: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self.http = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=ANSWER_WITHIN_S, trust_env=False
        )
        lanes = [self._search, self._search, self._chat, self._streamed, self._upload]
        self._asking = [asyncio.create_task(self._lane(ask)) for ask in lanes]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self.http.aclose()

    async def until(self, holds: Callable[[], bool | Awaitable[bool]], what: str) -> None:
        """Asks on until it holds."""
        until = time.monotonic() + CONDITION_WITHIN_S
        while True:
            found = holds()
            if found is True or (not isinstance(found, bool) and await found):
                return
            for task in self._asking:
                assert not task.done(), task.exception()
            assert time.monotonic() < until, f"{what}: not within {CONDITION_WITHIN_S:.0f} s"
            await asyncio.sleep(0.05)

    async def more(self, number: int) -> None:
        """So many further answers of each kind, of uploads a quarter."""
        begun = time.monotonic()

        def enough() -> bool:
            least = dict.fromkeys(KINDS, number) | {"upload": number // 4}
            return all(len(self.since(begun, kind)) >= least[kind] for kind in KINDS)

        await self.until(enough, f"{number} more answers of each kind")

    async def well(self) -> float:
        """Asks on until each kind is answered well again; gives after how many seconds."""
        begun = time.monotonic()

        def answered() -> bool:
            return all(any(a.good for a in self.since(begun, kind)) for kind in KINDS)

        await self.until(answered, "good answers of each kind")
        return time.monotonic() - begun

    def since(self, moment: float, kind: str = "") -> list[Answer]:
        """Answers to what was asked after a moment."""
        return [a for a in self.answers if a.begun >= moment and kind in ("", a.kind)]

    async def all_indexed(self) -> None:
        for document in list(self.uploaded):

            async def indexed(document: str = document) -> bool:
                response = await self.http.get(f"/v1/documents/{document}/status")
                if not response.is_success:
                    return False
                status = response.json()["status"]
                assert status in ("pending", "indexed"), response.text
                return bool(status == "indexed")

            await self.until(indexed, f"the document {document} indexed")

    # --- Lanes ----------------------------------------------------------------------------------

    async def _lane(self, ask: Callable[[int], Awaitable[None]]) -> None:
        for number in count():
            await ask(number)
            await asyncio.sleep(PAUSE_S)

    async def _search(self, number: int) -> None:
        await self._asked("search", "/v1/search", json={"query": f"What weighs item {number}?"})

    async def _chat(self, number: int, kind: str = "chat") -> None:
        messages = [{"role": "user", "content": f"How heavy is item {number % 30}?"}]
        body = {"model": "kb", "messages": messages, "stream": kind == "stream"}
        await self._asked(kind, "/v1/chat/completions", json=body)

    async def _streamed(self, number: int) -> None:
        await self._chat(number, "stream")

    async def _upload(self, number: int) -> None:
        """The same file until it is taken, as a client that was told to come again."""
        text = f"# Item {number}\n\nItem {number} weighs {7 * number} grams."
        while True:
            files = {"file": (f"{number}.md", text.encode())}
            answer = await self._asked("upload", "/v1/documents", files=files)
            if answer.status == 202:
                self.uploaded.append(json.loads(answer.text)["id"])
                await asyncio.sleep(UPLOAD_PAUSE_S)
                return
            await asyncio.sleep(UPLOAD_PAUSE_S)

    async def _asked(self, kind: str, path: str, **body: Any) -> Answer:
        begun = time.monotonic()
        try:
            response = await self.http.post(path, **body)
            status, headers, text = response.status_code, response.headers, response.text
        except httpx.HTTPError as error:
            status, headers, text = 0, httpx.Headers(), repr(error)
        answer = Answer(kind, begun, time.monotonic(), status, headers, text)
        self.answers.append(answer)
        return answer


def improper(answers: list[Answer], codes: set[str]) -> list[str]:
    """Answers that are neither good nor a 503 with one of these codes and a time to come again.

    A stream that had begun may end with the error instead.
    """
    return [
        f"{a.kind} {a.status} after {a.ended - a.begun:.1f} s: {a.text[:300]}"
        for a in answers
        if not (a.status == 503 and a.code in codes and int(a.headers.get("Retry-After", 0)) > 0)
        and not (a.good and (a.kind != "stream" or a.text.rstrip().endswith("[DONE]")))
    ]
