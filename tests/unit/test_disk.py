"""A full disk, however it is told."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from kb.disk import check_free, full_disk_told, is_full
from kb.errors import (
    CatalogDiskFull,
    CatalogUnavailable,
    DiskFull,
    IndexDiskFull,
    IndexUnavailable,
)
from retrieval.lance_index import translated
from serving.app.errors import error_response


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, os.strerror(errno.ENOSPC)), False),
        (RuntimeError("lance error: LanceError(IO): No space left on device (os error 28)"), True),
        (RuntimeError("lance error: LanceError(IO): Permission denied (os error 13)"), False),
    ],
)
def test_recognised(error: Exception, full: bool) -> None:
    assert is_full(error) is full


def test_told_with_the_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=rf"The disk of {tmp_path} is full\. Free space"):  # noqa: SIM117
        with full_disk_told(tmp_path):
            raise OSError(errno.ENOSPC, "x")
    with pytest.raises(PermissionError), full_disk_told(tmp_path):
        raise PermissionError(errno.EACCES, "x")


def test_a_reserve_is_kept(tmp_path: Path) -> None:
    check_free(tmp_path, 0)
    with pytest.raises(DiskFull, match=r"ingest\.min_free_mb asks for 1000000000"):
        check_free(tmp_path, 1_000_000_000)


@pytest.mark.parametrize(
    ("kind", "other"), [(IndexDiskFull, IndexUnavailable), (CatalogDiskFull, CatalogUnavailable)]
)
def test_http_and_pickles(kind: type[DiskFull], other: type[Exception]) -> None:
    """It stays what callers wait for, but clients are told of the disk."""
    error = pickle.loads(pickle.dumps(kind("Full.")))
    assert issubclass(kind, other)
    response = error_response(error)
    assert response.status_code == 507
    assert b'"code":"disk_full"' in response.body
    assert response.headers["Retry-After"]


def test_lance() -> None:
    with pytest.raises(IndexDiskFull, match="Free space"), translated("kb-a-1"):
        raise RuntimeError("LanceError(IO): No space left on device (os error 28), /src/x.rs:1:2")
