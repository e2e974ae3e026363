"""The blocking half of the model in this process: loads it and generates. Needs the extra [torch]."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from kb.errors import ModelMisbehaved, ModelUnavailable
from kb.generation import Message, ModelDelta, Role, Sampling, Usage

_USUAL_CONTEXT = 2048


class LoadedModel:
    """A transformers model and its tokenizer in memory. Every method blocks; one call at a time."""

    def __init__(self, name: str, device: str) -> None:
        """Raises ModelUnavailable, naming what is missing."""
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise ModelUnavailable(
                f"transformers can't be imported ({error}): pip install 'kb-server[torch]'"
            ) from error
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        with _translated(f"The model {name} can't be loaded"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            model: Any = AutoModelForCausalLM.from_pretrained(name)
            self._model = model.to(self.device).eval()
        if not self._tokenizer.chat_template:
            raise ModelUnavailable(f"The model {name} has no chat template: it is none for chats.")

    @property
    def context_tokens(self) -> int:
        return int(getattr(self._model.config, "max_position_embeddings", 0) or _USUAL_CONTEXT)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []  # The tokenizer fails on none.
        counted = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [len(ids) for ids in counted]

    def generate(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        say: Callable[[ModelDelta], None],
        stopped: threading.Event,
    ) -> None:
        """Says what the model says, until it ends or `stopped` is set. Raises ModelUnavailable."""
        import torch
        from transformers import StoppingCriteriaList, TextStreamer

        class Streamer(TextStreamer):
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                if text:
                    say(ModelDelta(text))

        with _translated("The model in this process failed"), torch.inference_mode():
            prompt = self._prompt(messages).to(self.device)
            asked = prompt["input_ids"].shape[1]
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            output = self._model.generate(
                **prompt,
                **_options(sampling),
                tokenizer=self._tokenizer,
                streamer=Streamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True),
                stopping_criteria=StoppingCriteriaList([lambda *_, **__: stopped.is_set()]),
                logits_processor=_penalties(sampling, asked),
            )
        said = output.shape[1] - asked
        if said == 0:
            raise ModelMisbehaved("The model said nothing.")
        finish = "length" if said >= (sampling.max_tokens or said + 1) else "stop"
        say(ModelDelta(finish=finish, usage=Usage(asked, said)))

    def _prompt(self, messages: Sequence[Message]) -> Any:
        """As the model's template writes it; one that refuses the turns is given them `alternating`."""
        from jinja2 import TemplateError

        try:
            return self._templated(messages)
        except TemplateError:
            return self._templated(alternating(messages))

    def _templated(self, messages: Sequence[Message]) -> Any:
        return self._tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in messages],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )

    def release(self) -> None:
        """Gives the memory back, to the system as well."""
        import torch

        del self._model, self._tokenizer
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The same said by user and assistant in turn: the templates of Gemma and of Mistral's first models
    refuse a system role and neighbours of one role. System texts come first, as the user's."""
    system = [Message(Role.USER, turn.content) for turn in messages if turn.role == Role.SYSTEM]
    others = [turn for turn in messages if turn.role != Role.SYSTEM]
    return [
        Message(role, "\n\n".join(turn.content for turn in turns))
        for role, turns in groupby([*system, *others], key=lambda turn: turn.role)
    ]


def _options(sampling: Sampling) -> dict[str, Any]:
    sampled = bool(sampling.temperature)
    options: dict[str, Any] = {"do_sample": sampled, "max_new_tokens": sampling.max_tokens}
    if sampled:
        options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.stop:
        options["stop_strings"] = list(sampling.stop)
    return {name: value for name, value in options.items() if value is not None}


def _penalties(sampling: Sampling, asked: int) -> Any:
    """OpenAI's: a token's logit is lowered where it was said before, once and for each time."""
    from transformers import LogitsProcessorList

    presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
    if not presence and not frequency:
        return LogitsProcessorList()

    def lowered(ids: Any, scores: Any) -> Any:
        counts = ids[0, asked:].bincount(minlength=scores.shape[-1])[: scores.shape[-1]]
        return scores - presence * (counts > 0) - frequency * counts

    return LogitsProcessorList([lowered])


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """torch and transformers raise these for a missing file, a wrong one, and too little memory, and
    a chat template for roles it does not know."""
    from jinja2 import TemplateError  # Comes with torch.

    foreseen = (OSError, ValueError, RuntimeError, MemoryError, KeyError, TypeError, TemplateError)
    try:
        yield
    except foreseen as error:
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise ModelUnavailable(f"{what}: {reason}") from error
