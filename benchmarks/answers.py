"""Measures extractive answers, refusals and follow-ups on public sets: the figures of docs/answers.md.

    python benchmarks/answers.py --data ../shared/data --model data/models --vectors /tmp/vectors

Passages are searched in memory by the product's own search, unsplit. Their vectors are kept in
`--vectors`, because embedding them takes most of the time. `--questions` limits every set.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import regex

from kb.ids import text_hash
from kb.ports import Embedder
from kb.settings import AnswerSettings
from kb.types import Chunk, Hit, IndexedDocument, IndexSchema, Vector, Vectors, passage_text
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.language_neutral import LanguageNeutralEmbedder
from retrieval.evaluate import answer_f1, auc
from retrieval.memory_index import MemoryIndex
from retrieval.search import search
from serving.answering.answer import Message, answer, quoting
from serving.answering.extractive import Extract, Quote, find_quotes
from serving.answering.refusal import reason_to_refuse, strength
from serving.question_sets import Passage, Question, load_question_set

DIALOGUES = Path(__file__).parent.parent / "tests" / "unit" / "dialogues.json"
SETTINGS = AnswerSettings()
ANSWERING = quoting(SETTINGS)

# (questions, passages). Questions whose answers are in the passages, in one language and across.
ANSWERABLE = (
    ("xquad_en", "xquad_en"),
    ("xquad_zh", "xquad_zh"),
    ("xquad_zh", "xquad_en"),
    ("xquad_en", "xquad_zh"),
    ("cmrc2018_trial", "cmrc2018_trial"),
    ("hotpotqa_train100", "hotpotqa_train100"),
    ("apisix_faq_en", "apisix_faq_en"),
    ("apisix_faq_zh", "apisix_faq_zh"),
)
# Questions about something else than the passages:
OFF_TOPIC = (
    ("apisix_faq_en", "xquad_en"),
    ("xquad_en", "apisix_faq_en"),
    ("apisix_faq_zh", "xquad_zh"),
    ("xquad_zh", "apisix_faq_zh"),
    ("cmrc2018_trial", "xquad_zh"),
    ("xquad_zh", "cmrc2018_trial"),
    ("xquad_en", "hotpotqa_train100"),
    ("apisix_faq_zh", "xquad_en"),
    ("xquad_zh", "apisix_faq_en"),
    ("apisix_faq_en", "xquad_zh"),
    ("xquad_en", "apisix_faq_zh"),
    ("cmrc2018_trial", "xquad_en"),
    ("xquad_zh", "hotpotqa_train100"),
    ("xquad_en", "cmrc2018_trial"),
    ("apisix_faq_en", "cmrc2018_trial"),
)
# Answerable questions and ones that only look so, in one set:
NEAR_MISS = ("squad_v2_dev_noanswer",)

Search = Callable[[str], Awaitable[list[Hit]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one question got. `answers` are the accepted ones, none where it has no answer."""

    extract: Extract
    answers: tuple[str, ...]

    @property
    def refused(self) -> bool:
        evidence = self.extract.evidence
        return evidence is None or reason_to_refuse(evidence) is not None

    @property
    def strength(self) -> float:
        return strength(self.extract.evidence) if self.extract.evidence else -1.0

    def quoted(self, most: int) -> str:
        return "\n".join(_text(quote) for quote in self.extract.quotes[:most])

    def contains(self, most: int) -> bool:
        quoted = _normal(self.quoted(most))
        return any(_normal(answer) in quoted for answer in self.answers)

    def f1(self, most: int) -> float:
        return answer_f1(self.quoted(most), self.answers)


def _text(quote: Quote) -> str:
    return quote.hit.chunk.text[slice(*quote.span)]


def _normal(text: str) -> str:
    return regex.sub(r"[\p{P}\p{S}\s]+", "", text.lower())


class RememberingEmbedder(LanguageNeutralEmbedder):
    """The product's embedder; sentences that many questions find are embedded once."""

    def __init__(self, embedder: Embedder, directions: Vectors) -> None:
        super().__init__(embedder, directions)
        self._known: dict[str, Vector] = {}

    async def queries(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, await super().queries(new), strict=True))
        return np.stack([self._known[text] for text in texts])


class Bench:
    def __init__(self, data: Path, vectors: Path, questions: int, embedder: Embedder) -> None:
        self._data = data
        self._vectors = vectors / embedder.fingerprint.replace("/", "_")
        self._vectors.mkdir(parents=True, exist_ok=True)
        self._questions = questions
        self._embedder = embedder

    async def answerable(self, asked: str, corpus: str) -> list[Outcome]:
        chosen = load_question_set(self._data / asked, self._data / corpus, self._questions)
        # Across languages the answer is looked for in the language of the passages.
        own = load_question_set(self._data / corpus, self._data / corpus)
        answers = {question.id: question.answers for question in own.questions}
        find = await self._search(corpus, chosen.passages)
        return [await self._ask(q, answers[q.id], find) for q in _asked(chosen.questions)]

    async def unanswerable(self, asked: str, corpus: str) -> list[Outcome]:
        chosen = load_question_set(self._data / asked, self._data / corpus, self._questions)
        find = await self._search(corpus, chosen.passages)
        return [await self._ask(question, (), find) for question in _asked(chosen.unanswerable)]

    async def dialogues(self) -> str:
        facts = json.loads(DIALOGUES.read_text(encoding="utf-8"))
        passages = [Passage(name, *fact) for name, fact in facts["facts"].items()]
        vectors = await self._embedder.passages([_passage(p) for p in passages])
        find = await self._index(passages, vectors)
        first, any_of_them = 0, 0
        for dialogue in facts["dialogues"]:
            turns = [
                Message("assistant" if i % 2 else "user", t)
                for i, t in enumerate(dialogue["turns"])
            ]
            given = await answer(turns, search=find, embedder=self._embedder, answering=ANSWERING)
            cited = [citation.document_id for citation in given.citations]
            first += cited[:1] == [dialogue["fact"]]
            any_of_them += dialogue["fact"] in cited
        return f"dialogues: {first} cite the right fact first, {any_of_them} at all, of {len(facts['dialogues'])}"

    async def _ask(self, question: Question, answers: tuple[str, ...], find: Search) -> Outcome:
        hits = await find(question.text)
        extract = await find_quotes(
            question.text, hits, embedder=self._embedder, limit=SETTINGS.sentences
        )
        return Outcome(extract, answers)

    async def _search(self, corpus: str, passages: Iterable[Passage]) -> Search:
        kept = self._vectors / f"{corpus}.passages.npy"
        passages = list(passages)
        if not kept.exists():
            vectors = await self._embedder.passages([_passage(p) for p in passages])
            np.save(kept, vectors)
        return await self._index(passages, np.load(kept))

    async def _index(self, passages: list[Passage], vectors: Vectors) -> Search:
        index = MemoryIndex(
            IndexSchema(self._embedder.fingerprint, self._embedder.dimensions, 1, 1)
        )
        await index.replace(
            [
                IndexedDocument(
                    passage.id, passage.id, (), "", (_chunk(passage),), vectors[i : i + 1]
                )
                for i, passage in enumerate(passages)
            ]
        )

        async def find(question: str) -> list[Hit]:
            return await search(
                question,
                collection="bench",
                index=index,
                embedder=self._embedder,
                limit=SETTINGS.passages,
                candidates=100,
            )

        return find


def _asked(questions: Iterable[Question]) -> list[Question]:
    """cmrc2018_trial has a question without text."""
    return [question for question in questions if question.text.strip()]


def _passage(passage: Passage) -> str:
    return passage_text(passage.title, (), passage.text)


def _chunk(passage: Passage) -> Chunk:
    identity, title, text = passage.id, passage.title, passage.text
    return Chunk(identity, identity, 0, title, (), None, 0, len(text), text, text_hash(text), 0)


async def main() -> None:
    arguments = _arguments()
    model = await E5OnnxEmbedder.open(arguments.model / "multilingual-e5-small", 2, 8)
    embedder = await RememberingEmbedder.over(model, arguments.model)
    bench = Bench(arguments.data, arguments.vectors, arguments.questions, embedder)
    print("answerable                               n  has@1  has@3  F1@1  F1@3  quotes  refused")
    for pair in ANSWERABLE:
        found = await bench.answerable(*pair)
        print(f"{_label(pair):38} {len(found):4}  {_answer_figures(found)}", flush=True)
    print("\noff topic                                n  refused")
    for pair in OFF_TOPIC:
        found = await bench.unanswerable(*pair)
        print(f"{_label(pair):38} {len(found):4}  {_refused(found):7.3f}", flush=True)
    for name in arguments.near_miss:
        can, cannot = await bench.answerable(name, name), await bench.unanswerable(name, name)
        separation = auc([o.strength for o in can], [o.strength for o in cannot])
        print(f"\nnear miss, {name}: {len(can)} + {len(cannot)} questions, AUC {separation:.3f}")
        print(f"answerable {_answer_figures(can)}; unanswerable refused {_refused(cannot):.3f}")
    print("\n" + await bench.dialogues())
    await embedder.close()


def _label(pair: tuple[str, str]) -> str:
    return " > ".join(pair)


def _answer_figures(found: list[Outcome]) -> str:
    has = [mean(outcome.contains(most) for outcome in found) for most in (1, 3)]
    f1 = [mean(outcome.f1(most) for outcome in found) for most in (1, 3)]
    quotes = mean(len(outcome.extract.quotes) for outcome in found)
    return f"{has[0]:5.3f}  {has[1]:5.3f}  {f1[0]:4.2f}  {f1[1]:4.2f}  {quotes:6.2f}  {_refused(found):7.3f}"


def _refused(found: list[Outcome]) -> float:
    return mean(outcome.refused for outcome in found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path, default=Path("data/models"))
    parser.add_argument("--vectors", type=Path, required=True, help="folder where vectors are kept")
    parser.add_argument("--questions", type=int, default=50, help="most questions of each set")
    parser.add_argument("--near-miss", nargs="*", default=NEAR_MISS, help="none with no name")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
