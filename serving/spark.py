"""What `kb sync --engine spark` needs: looked for before anything starts, and composed on each side."""

import importlib.util
import os
from typing import Final

from ingestion.indexing import InProcessEngine
from ingestion.java import find_java
from ingestion.spark import SUBMITTED, SparkCluster
from kb.errors import ConfigError
from kb.logs import configure_logs
from kb.settings import Settings
from kb.types import Generation
from serving.parts import Parts, index_kind, open_embedder, open_store

PACKAGES: Final = ("kb", "ingestion", "retrieval", "serving")
EXECUTORS_NEED: Final = frozenset({"embedder", "chunking", "ingest", "index", "log", "spark"})
PARTS: Final = "serving.spark:executor_parts"


class ExecutorParts(Parts):
    """What a Python worker of Spark keeps: no catalogue, which is the driver's alone."""

    async def engine_for(self, generation: Generation) -> InProcessEngine:
        """The driver makes visible what is written: one refresh a job instead of one a batch."""
        return self.engine(await self.open(generation), refresh=False)


def open_spark(settings: Settings) -> SparkCluster:
    """The cluster that the settings name, not started. Raises ConfigError where something is missing."""
    if index_kind(settings) != "elasticsearch":
        raise ConfigError(
            "Spark needs Elasticsearch: its executors write from many processes, for which the embedded "
            "index is not made. Set KB_INDEX__URL (docs/elasticsearch.md)."
        )
    if any(importlib.util.find_spec(name) is None for name in ("pyspark", "pandas")):
        raise ConfigError("`--engine spark` needs: pip install 'kb-server[spark]'")
    java = None if SUBMITTED in os.environ else find_java()
    return SparkCluster(executor_settings(settings), java, PARTS, PACKAGES)


def executor_settings(settings: Settings) -> Settings:
    """Those that executors need; the others, with the secrets in them, stay with the driver."""
    folder = settings.spark.data_dir or settings.data_dir.resolve()
    others = {
        name: field.default
        for name, field in Settings.model_fields.items()
        if name not in EXECUTORS_NEED
    }
    return settings.model_copy(update={**others, "data_dir": folder})


def executor_parts(settings: Settings, cpus: int) -> ExecutorParts:
    """On an executor: as in process, with the processors that Spark gives a task."""
    configure_logs(settings.log)
    embedder = settings.embedder
    ingest = settings.ingest
    own = settings.model_copy(
        update={
            "embedder": embedder.model_copy(update={"threads": embedder.threads or cpus}),
            "ingest": ingest.model_copy(
                update={"parse_processes": ingest.parse_processes or max(1, cpus // 2)}
            ),
        }
    )
    return ExecutorParts(own, open_store(own), open_embedder)
