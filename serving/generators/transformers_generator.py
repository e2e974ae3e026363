"""A small model in this process: loaded when first asked, its memory given back when nobody asks."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kb.errors import ModelUnavailable
from kb.generation import Message, ModelDelta, Sampling
from serving.generators.transformers_model import LoadedModel

T = TypeVar("T")


class TransformersGenerator:
    """One answer at a time, on a thread of its own; others wait for their turn."""

    def __init__(
        self, model: str, *, device: str = "", idle_s: float = 600.0, keep: bool = False
    ) -> None:
        """Nothing is loaded yet. With `keep` memory is not given back before `close`."""
        self._name = model
        self._device = device
        self._idle_s = idle_s
        self._keep = keep
        self._loaded: LoadedModel | None = None
        self._loading: asyncio.Future[LoadedModel] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generator")
        self._turn = asyncio.Lock()
        self._release_later: asyncio.TimerHandle | None = None
        self._releasing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    async def ready(self) -> None:
        """It can at least be loaded; while another's answer is made that is known."""
        if self._loaded is None:
            await self.context_tokens()

    async def context_tokens(self) -> int:
        async with self._turn:
            return (await self._load()).context_tokens

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        async with self._turn:
            loaded = await self._load()
            return await self._run(lambda: loaded.count_tokens(texts))

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        said: asyncio.Queue[ModelDelta | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stopped = threading.Event()

        def say(delta: ModelDelta | None) -> None:
            loop.call_soon_threadsafe(said.put_nowait, delta)

        async with self._turn:
            loaded = await self._load()
            work = loop.run_in_executor(
                self._thread, loaded.generate, messages, sampling, say, stopped
            )
            work.add_done_callback(lambda _: said.put_nowait(None))
            try:
                while (delta := await said.get()) is not None:
                    yield delta
                await work
            finally:
                # The next answer begins when this one has stopped, a token later.
                stopped.set()
                await asyncio.wait([work])

    async def close(self) -> None:
        if self._release_later:
            self._release_later.cancel()
        async with self._turn:
            await self._release()
        self._thread.shutdown(wait=False)

    async def _load(self) -> LoadedModel:
        """The model, with its idle time begun anew. Only by the one whose turn it is.

        Who gives up waiting does not stop the loading: the next one finds it further on.
        """
        if self._loaded is None:
            if self._loading is None or self._loading.cancelled():
                self._loading = asyncio.ensure_future(
                    self._run(lambda: LoadedModel(self._name, self._device))
                )
            try:
                self._loaded = await asyncio.shield(self._loading)
            except ModelUnavailable:
                self._loading = None
                raise
            self._loading = None
        if self._release_later:
            self._release_later.cancel()
        if not self._keep:
            loop = asyncio.get_running_loop()
            self._release_later = loop.call_later(self._idle_s, self._begin_release)
        return self._loaded

    def _begin_release(self) -> None:
        self._releasing = asyncio.ensure_future(self._release_in_turn())

    async def _release_in_turn(self) -> None:
        async with self._turn:
            await self._release()

    async def _release(self) -> None:
        if self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            await self._run(loaded.release)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
