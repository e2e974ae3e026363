"""How much text each loader keeps, against other projects' own renderings of the same files.

    python -m benchmarks.loaders [--files] [--format docx]

Reads ../shared/data/fixtures (public test files of docling and markitdown). A word is a run of
letters and digits, or one CJK character; both texts are bags of words. `kept` is the share of the
reference's words that we have, `right` the share of our words that the reference has. References
are renderings by other programs, not the truth: they write equations as LaTeX, for instance.
"""

import argparse
import html
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingestion.loaders import load
from ingestion.loaders.limits import LoadLimits
from kb.errors import DocumentError

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "data" / "fixtures"
LIMITS = LoadLimits(max_bytes=100 << 20, max_characters=20_000_000, max_expansion=200)

_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_PLACEHOLDERS = re.compile(r"<!--.*?-->|data:image/\S+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Measurement:
    """`kept` and `right` are 0 to 1; `failure` is the category where there is no text."""

    name: str
    suffix: str
    seconds: float
    kept: float = 0.0
    right: float = 0.0
    failure: str = ""


def words(text: str) -> Counter[str]:
    plain = html.unescape(_PLACEHOLDERS.sub(" ", text)).replace("\\", "")
    return Counter(_WORD.findall(plain.lower()))


def pairs() -> Iterator[tuple[Path, Path]]:
    """Each file with its reference rendering."""
    for source in sorted(FIXTURES.rglob("*")):
        if not source.is_file() or source.parent.name in ("groundtruth", "expected_outputs"):
            continue
        candidates = [source.parent.parent / "groundtruth" / f"{source.name}.md"]
        if source.suffix == ".pdf":  # only PDFs have references named without the suffix
            candidates.append(source.parent.parent / "groundtruth" / f"{source.stem}.md")
            candidates.append(source.parent / "expected_outputs" / f"{source.stem}.md")
        reference = next((path for path in candidates if path.is_file()), None)
        if reference is not None:
            yield source, reference


def measure(source: Path, reference: Path) -> Measurement:
    start = time.process_time()
    try:
        document = load(source, LIMITS)
    except DocumentError as error:
        seconds = time.process_time() - start
        return Measurement(source.name, source.suffix, seconds, failure=error.category)
    seconds = time.process_time() - start
    ours, theirs = words(f"{document.title}\n{document.text}"), words(reference.read_text("utf-8"))
    ours_body = words(document.text)
    common = (ours & theirs).total()
    return Measurement(
        source.name,
        source.suffix,
        seconds,
        kept=common / max(theirs.total(), 1),
        right=(ours_body & theirs).total() / max(ours_body.total(), 1),
    )


def report(measurements: list[Measurement]) -> None:
    by_format: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        by_format[measurement.suffix].append(measurement)
    print(f"{'format':10} {'files':>5} {'failed':>6} {'kept':>6} {'right':>6} {'files/CPU s':>11}")
    for suffix, group in sorted(by_format.items()):
        read = [m for m in group if not m.failure]
        kept = sum(m.kept for m in read) / max(len(read), 1)
        right = sum(m.right for m in read) / max(len(read), 1)
        speed = len(group) / sum(m.seconds for m in group)
        failed = len(group) - len(read)
        print(f"{suffix:10} {len(group):5} {failed:6} {kept:6.3f} {right:6.3f} {speed:11.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", action="store_true", help="also a line for each file")
    parser.add_argument("--format", default="", help="one format only, such as docx")
    arguments = parser.parse_args()
    if not FIXTURES.is_dir():
        raise SystemExit(f"The test files are not there: {FIXTURES}")
    chosen = [pair for pair in pairs() if pair[0].suffix.endswith(arguments.format)]
    if not chosen:
        raise SystemExit(f"No file of the format {arguments.format!r} has a reference.")
    measurements = [measure(*pair) for pair in chosen]
    if arguments.files:
        for m in sorted(measurements, key=lambda m: (m.suffix, m.kept)):
            print(
                f"{m.suffix:8} {m.kept:6.3f} {m.right:6.3f} {m.seconds:7.2f} s  {m.failure:10} {m.name}"
            )
    report(measurements)


if __name__ == "__main__":
    main()
