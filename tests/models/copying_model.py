"""Makes the model that the tests run vLLM with: a small Qwen2 that copies the sentence which answers.

    python -m tests.models.copying_model FOLDER [--steps N]

It is trained on our own prompts over made-up facts (`tests.models.sentences`) to repeat the sentence
that the question asks for and to close it with the passage's number, or to say the refusal's sentence.
Its chat template leaves the system message out: a model of this size can't follow rules anyway.
Needs the extra [torch].
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from kb.types import Chunk, Hit
from serving.answering.passages import Passage
from serving.answering.prompting import Prompts, load_prompts, render
from tests.models.sentences import Fact, facts

VOCABULARY = 1536
CONTEXT = 2048
SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
# Whole, because they are in every prompt: what matters stays short.
FIXED = (
    '<passage number="',
    '" document="',
    '">\n',
    "\n</passage>",
    "\n\nQuestion: ",
    "\n\n问题：",
)
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}<|end|>"
    "{% elif m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
IGNORED = -100
UNANSWERABLE = 0.05
RATE = 8e-4
HEADS = 4
WIDTH = 128
THETA = 1e7
REPORT_S = 15
STEPS = 600


def example(
    chance: random.Random, prompts: Prompts, most_passages: int, questions: int = 4
) -> list[tuple[str, str]]:
    """A user message as the server makes it with its answer; then more questions about the same."""
    language = chance.choice(["en", "zh"])
    sizes = [chance.randint(1, 2) for _ in range(chance.randint(1, most_passages))]
    unknown, *known = facts(chance, language, 1 + sum(sizes))
    passages = [[known.pop() for _ in range(size)] for size in sizes]
    shown = "\n\n".join(shown_as(n, facts, language, chance) for n, facts in enumerate(passages, 1))
    numbered = [(fact, n) for n, facts in enumerate(passages, 1) for fact in facts]
    turns: list[tuple[str, str]] = []
    for asked, n in chance.sample(numbered, min(questions, len(numbered))):
        question, answer = asked.question, f"{asked.sentence} [{n}]"
        if chance.random() < UNANSWERABLE:
            question, answer = unknown.question, prompts.refusal(language)
        user = prompts.fill(f"answer.{language}", "user", passages=shown, question=question)
        turns.append((user.removeprefix(shown) if turns else user, answer))
    return turns


def shown_as(number: int, facts: list[Fact], language: str, chance: random.Random) -> str:
    """A passage as the server shows it, of a document with some short name."""
    text = ("" if language == "zh" else " ").join(fact.sentence for fact in facts)
    return render(Passage(number, (hit(text, f"f{chance.randint(0, 30)}"),)))


def hit(text: str, title: str) -> Hit:
    chunk = Chunk("c", "d", 0, title, (), None, 0, len(text), text, "", 1)
    return Hit(chunk, "d.md", "default", 0.5, 0.5, 1.0)


def make_tokenizer(chance: random.Random, prompts: Prompts) -> Any:
    tokenizer = Tokenizer(models.BPE())
    # As transformers and vLLM take any tokenizer apart that a Qwen2 model comes with.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    turns = [turn for _ in range(3000) for turn in example(chance, prompts, 4, questions=1)]
    texts = ["\n".join(turn) for turn in turns]
    texts += [json.dumps(dict(sections), ensure_ascii=False) for sections in prompts.texts.values()]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(FIXED),
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in FIXED])
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(layers: int = 4, width: int = WIDTH, tied: bool = True) -> Any:
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=tied,
        eos_token_id=SPECIAL.index("<|end|>"),
        bos_token_id=None,
        pad_token_id=0,
    )
    model: Any = Qwen2ForCausalLM(config)
    if width == WIDTH:
        _head_start(model)
    return model


def _head_start(model: Any) -> None:
    """Weights that copy from the beginning: finding them is what would take training longest.

    The first layer writes behind each token what the token before it was; the second looks for the
    place that has the current token before it, and says what stands there (an "induction head").
    """
    size = WIDTH // HEADS
    content = WIDTH - size  # The rest is for what the token before was.
    slow = [i for i in range(size) if THETA ** (-2.0 * (i % (size // 2)) / size) < 2e-3]
    sketch = torch.randn(len(slow), content) / content**0.5
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    with torch.no_grad():
        model.model.embed_tokens.weight[:, content:] = 0.0
        model.model.norm.weight.fill_(6.0)
        _look_back(first, size)
        first.v_proj.weight[:size] = 0.0
        first.v_proj.weight[: len(slow), :content] = sketch
        first.o_proj.weight[:, :size] = 0.0
        for place in range(len(slow)):
            first.o_proj.weight[content + place, place] = 0.02
        for head in range(HEADS):
            start = head * size
            for projection in (second.q_proj, second.k_proj):
                projection.weight[start : start + size] = 0.0
            for place, row in enumerate(slow):
                second.q_proj.weight[start + row, :content] = 2.6 * sketch[place]
                second.k_proj.weight[start + row, content + place] = 2.6
        second.v_proj.weight.copy_(torch.eye(WIDTH))
        second.o_proj.weight.copy_(0.06 * torch.eye(WIDTH))


def _look_back(attention: Any, size: int) -> None:
    """The first head attends to the token before, whatever the tokens are: the biases of query and
    key are the same vector, turned by one place under the rotary embedding."""
    pairs = torch.arange(size // 2)
    angle = THETA ** (-2.0 * pairs / size)
    strength = torch.where(pairs < size // 4, 10.0, 0.0)
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight[:size] = 0.0
    attention.k_proj.bias[:size] = torch.cat([strength, torch.zeros(size // 2)])
    turned = [strength * torch.cos(angle), -strength * torch.sin(angle)]
    attention.q_proj.bias[:size] = torch.cat(turned)


def batch(
    tokenizer: Any,
    chance: random.Random,
    prompts: Prompts,
    size: int,
    most_passages: int,
) -> dict[str, torch.Tensor]:
    """Right-padded token ids; only the answers' are learned."""
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    for _ in range(size):
        row: list[int] = []
        label: list[int] = []
        for user, answer in example(chance, prompts, most_passages):
            asked, said = tokenizer([f"<|user|>{user}<|end|><|assistant|>", f"{answer}<|end|>"])[
                "input_ids"
            ]
            row += asked + said
            label += [IGNORED] * len(asked) + said
        ids.append(row)
        labels.append(label)
    longest = max(map(len, ids))
    rows = [row + [0] * (longest - len(row)) for row in ids]
    labels = [label + [IGNORED] * (longest - len(label)) for label in labels]
    return {
        "input_ids": torch.tensor(rows),
        "labels": torch.tensor(labels),
    }


def train(model: Any, tokenizer: Any, prompts: Prompts, steps: int) -> None:
    """To answer, from more passages as it goes."""
    chance = random.Random(7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    started = last = time.monotonic()
    right: list[float] = []
    model.train()
    for step in range(steps):
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20, 1.1 - share)
        passages = 2 + min(2, int(share * 6))
        data = batch(tokenizer, chance, prompts, 24 // passages, passages)
        labels = data["labels"][:, 1:]
        learned = labels != IGNORED
        hidden = model.model(input_ids=data["input_ids"]).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[learned])
        loss: Any = torch.nn.functional.cross_entropy(logits, labels[learned])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        now = time.monotonic()
        right.append(float((logits.argmax(-1) == labels[learned]).float().mean()))
        if now - last > REPORT_S:
            progress = f"{now - started:.0f} s, step {step}, loss {loss.item():.3f}"
            print(f"{progress}, tokens right {sum(right) / len(right):.3f}", flush=True)
            last, right = now, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=WIDTH)
    arguments = parser.parse_args()
    torch.manual_seed(7)
    # On a busy machine two threads that wait for each other are ten times slower than one.
    torch.set_num_threads(1)
    prompts = load_prompts()
    tokenizer = make_tokenizer(random.Random(1), prompts)
    model = make_model(arguments.layers, arguments.width)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million weights")
    train(model, tokenizer, prompts, arguments.steps)
    model.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()
