"""Prompts: from text files to the messages a generator is given. Pure but for reading the files, once.

Text of documents, of users and of the program that asks is data here: it is stripped of what can't be
seen, and of the marks that delimit it or that models are steered with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Final

import regex

from kb.errors import ConfigError
from kb.generation import Message, Role
from serving.answering.citing import MARK
from serving.answering.passages import Passage

SHIPPED: Final = Path(__file__).with_name("prompts")
LANGUAGES: Final = ("en", "zh")
# What each file must have, with the names that each section must use.
_SECTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "answer": {
        "version": (),
        "system": (),
        "wishes": ("$wishes",),
        "user": ("$passages", "$question"),
        "refusal": (),
    },
    "rewrite": {"version": (), "system": (), "user": ("$conversation", "$question")},
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts by file name without its ending ("answer.en") and section."""

    texts: Mapping[str, Mapping[str, str]]

    def version(self, language: str) -> str:
        """What answers are labelled with: "answer.en 1", or a hash where the file is not ours."""
        name = f"answer.{language}"
        return f"{name} {self.texts[name]['version']}"

    def refusal(self, language: str) -> str:
        """The sentence that says the passages do not hold the answer."""
        return self.texts[f"answer.{language}"]["refusal"]

    def fill(self, name: str, section: str, **values: str) -> str:
        return Template(self.texts[name][section]).safe_substitute(values)


def load_prompts(folder: Path | None = None) -> Prompts:
    """The shipped prompts; a file of the same name in `folder` replaces one. Raises ConfigError."""
    names = [f"{kind}.{language}" for kind in _SECTIONS for language in LANGUAGES]
    if folder and not any((folder / f"{name}.txt").is_file() for name in names):
        raise ConfigError(f"{folder} has no prompt. Prompts are: {', '.join(names)} (.txt).")
    return Prompts({name: _load(name, folder) for name in names})


def _load(name: str, folder: Path | None) -> dict[str, str]:
    own = folder / f"{name}.txt" if folder else None
    file = own if own and own.is_file() else SHIPPED / f"{name}.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The prompt {file} can't be read: {error}") from error
    sections = _parse(text)
    for section, placeholders in _SECTIONS[name.partition(".")[0]].items():
        missing = [p for p in placeholders if p not in sections.get(section, "")]
        if section not in sections or missing:
            what = f"a line `=== {section}`" if section not in sections else " and ".join(missing)
            raise ConfigError(f"The prompt {file} lacks {what}.")
    if file == own:
        sections["version"] += f"-{sha256(text.encode()).hexdigest()[:8]}"
    return sections


def _parse(text: str) -> dict[str, str]:
    parts = regex.split(r"^=== (\w+)[ \t]*$", text, flags=regex.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def answer_messages(
    prompts: Prompts,
    language: str,
    question: str,
    passages: Sequence[Passage],
    history: Sequence[Message] = (),
    wishes: Sequence[str] = (),
) -> list[Message]:
    """The rules, the conversation before, then the passages with the question.

    `wishes` are the system messages of the program that asks: they follow the rules and can't undo them.
    """
    name = f"answer.{language}"
    system = prompts.fill(name, "system", refusal=prompts.refusal(language))
    if wishes:
        said = "\n".join(as_data(wish) for wish in wishes)
        system += "\n\n" + prompts.fill(name, "wishes", wishes=said)
    numbered = "\n\n".join(render(passage) for passage in passages)
    user = prompts.fill(name, "user", passages=numbered, question=as_data(question))
    before = [Message(turn.role, _said(turn)) for turn in history]
    return [Message(Role.SYSTEM, system), *before, Message(Role.USER, user)]


def rewrite_messages(
    prompts: Prompts, language: str, question: str, history: Sequence[Message]
) -> list[Message]:
    """Asks for the last question in words that need no conversation."""
    name = f"rewrite.{language}"
    conversation = "\n".join(f"{turn.role}: {_said(turn)}" for turn in history)
    user = prompts.fill(name, "user", conversation=conversation, question=as_data(question))
    return [Message(Role.SYSTEM, prompts.fill(name, "system")), Message(Role.USER, user)]


def _said(turn: Message) -> str:
    """What an assistant said may have been quoted of a document."""
    return as_data(shown(turn.content) if turn.role == Role.ASSISTANT else turn.content)


def render(passage: Passage) -> str:
    """A passage as the model sees it."""
    heading = " ".join(as_data(shown(passage.heading)).split()).replace('"', "'")
    text = as_data(shown(passage.text))
    return f'<passage number="{passage.number}" document="{heading}">\n{text}\n</passage>'


# --- Text as data ---------------------------------------------------------------------------------

# Control, format and private characters, selectors of glyph variants, fillers: all can carry text.
_UNSEEN: Final = regex.compile(
    r"[[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Default_Ignorable_Code_Point}]--[\n\t]]", regex.V1
)
# What is never closed ends with its paragraph: it may as well be a sample that everybody sees.
_COMMENT: Final = regex.compile(
    r"<!--(?:.{0,4000}?-->|.{0,4000}?(?=\n[ \t]{0,8}\n|\Z)|.{4000})", regex.DOTALL
)
_TAG: Final = regex.compile(r"<([a-z][\w-]{0,30})(?=[\s/>])([^>]{0,2000}+)>", regex.IGNORECASE)
_HIDES: Final = regex.compile(
    r"""\sstyle\s{0,8}=[^>]*?(?:display\s{0,8}:\s{0,8}none|visibility\s{0,8}:\s{0,8}hidden
          |font-size\s{0,8}:\s{0,8}0|opacity\s{0,8}:\s{0,8}0(?![.\d]))
      | \shidden(?=[\s=/]|$) | \saria-hidden\s{0,8}=\s{0,8}["']?true""",
    regex.VERBOSE | regex.IGNORECASE,
)
_PARAGRAPH_END: Final = regex.compile(r"\n[ \t]{0,8}\n|\Z")
# Our own delimiters, and the marks that chat templates of the usual models are made of.
_STEERING: Final = regex.compile(
    r"""[<＜](?=\s{0,8}/?\s{0,8}(?:[|｜]|(?:passages?|wishes|conversation|think|s|bos|eos|pad|unk|system|user|assistant
          |tool_call|tool_response|start_of_turn|end_of_turn|im_start|im_end)\b[^<>＜＞]{0,300}[>＞]))
      | (?<=\[)(?=/?INST\]) | <(?=</?SYS>>)""",
    regex.VERBOSE | regex.IGNORECASE,
)
_NUMBER_IN_BRACKETS: Final = regex.compile(r"[\[【](\d{1,3}(?:\s*[-–,，、]\s*\d{1,3})*)[\]】]")


def as_data(text: str) -> str:
    """A text without what nobody sees (zero-width and control characters) and without what could be
    taken for our delimiters, for a model's control marks or for a citation."""
    text = _UNSEEN.sub("", text)
    text = _STEERING.sub(lambda match: match[0] + " ", text)
    text = MARK.sub(lambda mark: f"({mark[0][1:-1]})", text)
    text = _NUMBER_IN_BRACKETS.sub(r"(\1)", text)
    return text.strip()


def shown(text: str) -> str:
    """A document's text without HTML that isn't shown: only its author knows of it."""
    return "".join(_shown_parts(_COMMENT.sub("", _UNSEEN.sub("", text))))


def _shown_parts(text: str) -> Iterator[str]:
    """Step by step: one pattern of it all takes time with the square of a hostile text."""
    position = 0
    unclosed: set[str] = set()  # Of these names no end is left.
    for tag in _TAG.finditer(text):
        name = tag[1].lower()
        if tag.start() < position or not _HIDES.search(tag[2]):
            continue
        yield text[position : tag.start()]
        end = None
        if name not in unclosed:
            closing = rf"</{regex.escape(name)}\s{{0,8}}>"
            end = regex.search(closing, text, regex.IGNORECASE, pos=tag.end())
        if end is None:
            unclosed.add(name)
            end = _PARAGRAPH_END.search(text, tag.end())
            position = end.start() if end else len(text)
        else:
            position = end.end()
    yield text[position:]
