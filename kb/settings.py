"""All settings in one frozen tree: prefix `KB_`, nested by `__`, optionally from `kb.toml`.

Nothing else in the code reads the environment. Each component is given its own section.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from kb.errors import ConfigError

ENV_PREFIX = "KB_"
CONFIG_FILE_VARIABLE = "KB_CONFIG"
DEFAULT_CONFIG_FILE = Path("kb.toml")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbedderSettings(Section):
    kind: Literal["e5-onnx", "sentence-transformers", "open-inference"] = Field(
        "e5-onnx",
        description="e5-onnx works offline out of the box; sentence-transformers needs the extra [torch]; "
        "open-inference asks Triton or another server of that protocol at embedder.url",
    )
    model: str = Field(
        "",
        description="folder or name of a sentence-transformers model; with open-inference its name there",
    )
    url: SecretStr = Field(
        SecretStr(""), description="open-inference: the server's address, such as http://host:8000"
    )
    tokenizer: Path | None = Field(
        None,
        description="open-inference: the model's tokenizer.json, as `kb model export` wrote it",
    )
    timeout_s: float = Field(
        30.0, gt=0, description="open-inference: seconds after which a request to the server fails"
    )
    device: str = Field("", description="torch device, such as cuda or cpu; empty chooses")
    query_prefix: str | None = Field(
        None, description="put before questions; empty takes the model's own"
    )
    passage_prefix: str | None = Field(
        None, description="put before passages; empty takes the model's own"
    )
    threads: int = Field(
        0, ge=0, description="threads that embed passages; 0 means one for each core"
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="passages of one model call; 0 takes the kind's own: 8, 32 on torch, 16 with open-inference",
    )
    query_batch: int = Field(
        0,
        ge=0,
        le=1024,
        description="texts of different questions in one call; 0 takes the model's own: 1 for e5-onnx, 32 on torch",
    )


class ChunkingSettings(Section):
    max_tokens: int = Field(
        384, ge=64, le=8192, description="most tokens of one chunk, its title and headings included"
    )


class IngestSettings(Section):
    parse_processes: int = Field(
        0, ge=0, description="parsing processes; 0 means half of the cores, at least one"
    )
    parse_timeout_s: float = Field(
        120.0, gt=0, description="seconds after which the parsing of one file is killed"
    )
    parse_memory_mb: int = Field(
        2048, ge=512, description="memory (MiB) beyond which a parsing process is stopped"
    )
    max_file_mb: int = Field(100, ge=1, description="files larger than this (MiB) are refused")
    max_characters: int = Field(
        20_000_000, ge=1000, description="most characters of text taken from one file"
    )
    max_expansion: int = Field(
        200, ge=10, description="most times a compressed file may grow when unpacked"
    )
    index_patience_s: float = Field(
        600.0,
        ge=0,
        description="seconds an ingest waits for an index that is gone before it gives up",
    )
    min_free_mb: int = Field(
        100,
        ge=0,
        description="least free space (MiB) on the disk of data_dir for an ingest or upload to begin; 0 asks for none",
    )
    max_delete_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of a source's documents that a sync deletes at most without being confirmed",
    )
    free_deletes: int = Field(
        3,
        ge=0,
        description="so many documents a sync deletes whatever share of the source they are",
    )


class SparkSettings(Section):
    """For `kb sync --engine spark`; all else about Spark is set as Spark's own, see docs/spark.md."""

    master: str = Field(
        "local[*,4]",
        description="Spark's master, such as local[*,4], yarn or spark://host:7077; spark-submit's own wins",
    )
    documents_per_task: int = Field(
        256,
        ge=1,
        le=100_000,
        description="documents that one task of Spark reads, embeds and indexes",
    )
    data_dir: Path | None = Field(
        None,
        description="folder for the model on the executors' machines; empty takes the path of data_dir",
    )


class WorkerSettings(Section):
    """When the worker does what: five cron fields, minute to day of week; empty means never."""

    in_process: bool = Field(True, description="whether `kb up` runs a worker too")
    timezone: str = Field(
        "",
        description="time zone of the times below, such as Europe/Berlin; empty takes the machine's",
    )
    sync: str = Field("0 2 * * *", description="when all sources are synchronised")
    retry: str = Field(
        "30 * * * *", description="when documents are tried again whose failure may have passed"
    )
    prune: str = Field(
        "0 4 * * *", description="when old index generations and old runs are deleted"
    )
    backup: str = Field(
        "30 3 * * *", description="when a backup is made, where backup.folder names a place"
    )
    health: str = Field("*/15 * * * *", description="when figures of health are logged")
    lease_s: float = Field(
        60.0, gt=0, description="seconds of silence after which a worker counts as dead"
    )
    keep_runs_days: int = Field(
        90, ge=1, description="days after which finished runs are forgotten"
    )


class CatalogSettings(Section):
    url: SecretStr = Field(
        SecretStr(""),
        description="database, such as postgresql://user:password@host/name; empty means SQLite in the data folder",
    )


class IndexSettings(Section):
    """All but `kind` is for Elasticsearch."""

    kind: Literal["auto", "embedded", "elasticsearch"] = Field(
        "auto",
        description="where chunks are indexed; auto: in Elasticsearch when index.url is set, else embedded",
    )
    url: SecretStr = Field(
        SecretStr(""),
        description="Elasticsearch's address, such as https://user:password@host:9200; several nodes with commas",
    )
    api_key: SecretStr = Field(
        SecretStr(""), description="Elasticsearch's API key (encoded), instead of user and password"
    )
    ca_certs: Path | None = Field(
        None,
        description="file with the certificate authority that Elasticsearch's certificate is of",
    )
    verify_certs: bool = Field(
        True, description="false trusts any certificate; only for trying things out"
    )
    prefix: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,99})?$",
        description="put before the names of indexes; two installations on one cluster need different ones",
    )
    search_timeout_s: float = Field(
        5.0, gt=0, description="seconds after which a search fails; it is not tried again"
    )
    write_timeout_s: float = Field(
        60.0, gt=0, description="seconds after which a write, or another request, fails"
    )
    shards: int = Field(1, ge=1, le=1024, description="primary shards of a new index")
    replicas: int = Field(
        0, ge=0, le=10, description="copies of each shard of a new index; 1 in production"
    )
    vector_index: Literal["bbq_hnsw", "int8_hnsw", "hnsw"] = Field(
        "bbq_hnsw",
        description="vectors in memory at 1, 8 or 32 bits a dimension, for a new index",
    )
    hnsw_m: int = Field(
        16, ge=2, le=512, description="neighbours of a vector in a new index's graph"
    )
    hnsw_ef_construction: int = Field(
        200, ge=2, le=3200, description="neighbours looked at when a vector is added to the graph"
    )
    num_candidates: int = Field(
        200,
        ge=1,
        le=10_000,
        description="vectors a shard looks at in a search; never fewer than asked for",
    )
    rescore_oversample: float = Field(
        3.0,
        ge=0,
        le=10,
        description="times as many quantised vectors as asked for are compared exactly; 0 asks for none",
    )
    bulk_mb: int = Field(8, ge=1, le=90, description="largest write request (MiB)")


class SearchSettings(Section):
    candidates: int = Field(
        50,
        ge=10,
        le=1000,
        description="candidates each side (vector, lexical) brings to the fusion",
    )
    max_limit: int = Field(100, ge=1, le=1000, description="most hits one search may ask for")
    timeout_s: float = Field(
        10.0,
        gt=0,
        description="seconds after which the search of a request is given up (503), whatever it waits for",
    )


class AnswerSettings(Section):
    passages: int = Field(8, ge=1, le=50, description="hits an answer is made from")
    sentences: int = Field(3, ge=1, le=10, description="most sentences an extractive answer quotes")
    turns: int = Field(
        6, ge=1, le=50, description="last questions of a conversation that a follow-up may lean on"
    )


class FallbackSettings(Section):
    """A smaller model for when the first can't answer: in this process, or at a second address."""

    url: SecretStr = Field(
        SecretStr(""), description="OpenAI-compatible address of the fallback, instead of a folder"
    )
    model: str = Field(
        "",
        description="with url: the model's name there; else a transformers model's folder or name (extra [torch])",
    )
    api_key: SecretStr = Field(SecretStr(""), description="API key for the fallback's url")
    device: str = Field("", description="torch device, such as cuda or cpu; empty chooses")
    warm: bool = Field(False, description="true loads it at the start and keeps it in memory")
    idle_s: float = Field(
        600.0, gt=0, description="seconds without a question after which its memory is given back"
    )


class GenerationSettings(Section):
    url: SecretStr = Field(
        SecretStr(""),
        description="vLLM's or another OpenAI-compatible address, as http://host:8001/v1; replicas with commas",
    )
    model: str = Field("", description="the model's name there; empty takes the first it lists")
    api_key: SecretStr = Field(SecretStr(""), description="API key for url")
    context_tokens: int = Field(
        0,
        ge=0,
        description="tokens of prompt and answer together; 0 asks the server (vLLM says it), else 8192",
    )
    tokenizer: Path | None = Field(
        None, description="tokenizer.json to count with where the server has no /tokenize"
    )
    max_tokens: int = Field(1024, ge=16, description="most tokens of an answer")
    temperature: float = Field(0.0, ge=0, le=2, description="used where the question names none")
    begins_thinking: bool = Field(
        False,
        description="true where the model's thinking is left in the text without an opening <think>",
    )
    rewrite: bool = Field(True, description="the model rewrites follow-up questions; else rules do")
    prompts: Path | None = Field(
        None, description="folder with prompts of your own; a missing one is the shipped one"
    )
    connect_s: float = Field(2.0, gt=0, description="seconds to connect")
    first_token_s: float = Field(
        10.0, gt=0, description="seconds until the first token before the next rung answers"
    )
    between_tokens_s: float = Field(
        10.0, gt=0, description="seconds between two tokens before the answer is given up"
    )
    total_s: float = Field(120.0, gt=0, description="seconds for a whole answer, search included")
    failures: int = Field(
        5, ge=1, description="failures in a row after which a model is left alone"
    )
    pause_s: float = Field(
        30.0, gt=0, description="seconds until a model left alone is tried again"
    )
    fallback: FallbackSettings = FallbackSettings()


class ServerSettings(Section):
    host: str = Field(
        "127.0.0.1", description="address to listen on; only this machine until keys exist"
    )
    port: int = Field(8000, ge=0, le=65535)
    max_upload_mb: int = Field(100, ge=1, description="largest upload (MiB)")
    max_requests: int = Field(
        128, ge=1, description="requests worked on at a time; more are refused at once (503)"
    )
    max_body_kb: int = Field(
        1024, ge=1, description="largest request body other than uploads (KiB)"
    )
    max_connections: int = Field(
        512, ge=1, description="connections open at a time; more are refused at once (503)"
    )
    request_timeout_s: float = Field(
        20.0,
        gt=0,
        description="seconds for a request's head, for each 256 KiB of its body, and for a client to read on",
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks, by commas, whose X-Forwarded-Proto and -For are believed; * is everybody",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        description="seconds that a server told to stop answers on, not ready, until its load goes elsewhere",
    )
    shutdown_s: int = Field(
        20,
        ge=1,
        description="seconds for ending what was begun, such as streams, after that",
    )


class LimitsSettings(Section):
    requests_per_minute: int = Field(
        600, ge=0, description="requests of one key in a minute; 0 does not count"
    )
    concurrent_requests: int = Field(
        16, ge=0, description="requests of one key at a time; 0 does not count"
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="redis://:password@host:6379/0, where servers share the rates (extra [redis])",
    )


class CacheSettings(Section):
    """Of searches and answers. A change of the index or of rights is seen at once, whatever is kept."""

    ttl_s: float = Field(
        600.0, ge=0, description="seconds that a search or an answer is kept; 0 keeps nothing"
    )
    size_mb: int = Field(
        64, ge=0, description="most memory (MiB) of this process for it; 0 keeps nothing here"
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="redis://:password@host:6379/0, where servers share it, with passages' text (extra [redis])",
    )


class BackupSettings(Section):
    folder: Path | None = Field(
        None, description="where `kb backup` and the worker keep backups; on another disk, best"
    )
    keep: int = Field(7, ge=1, description="backups of the worker that are kept, newest first")
    repository: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="snapshot repository of Elasticsearch that keeps the index of backups, instead of the folder",
    )


class EvaluationSettings(Section):
    """Golden questions, asked after every sync and before another index goes live."""

    folder: Path | None = Field(
        None, description="where <collection>.jsonl has a collection's golden questions"
    )
    feedback: bool = Field(
        True, description="whether questions whose answers readers found good are golden too"
    )
    min_accuracy: float = Field(
        0.0, ge=0, le=1, description="a new index that answers less than this share stays unused"
    )
    max_drop: float = Field(
        0.1, ge=0, le=1, description="nor does one that answers so much less than the live one"
    )


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else JSON"
    )
    questions: bool = Field(
        False, description="whether questions are logged; without it the log holds no one's words"
    )


class TracingSettings(Section):
    """All else is set by OpenTelemetry's own variables, see docs/monitoring.md."""

    endpoint: SecretStr = Field(
        SecretStr(""),
        description="collector of spans (OTLP over HTTP), such as http://127.0.0.1:4318 (extra [otel]); empty: none",
    )


class Settings(BaseSettings):
    """Order of precedence: environment, then `kb.toml`, then the defaults."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(
        Path("data"), description="where the index, the catalogue, the model and uploads are kept"
    )
    embedder: EmbedderSettings = EmbedderSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    ingest: IngestSettings = IngestSettings()
    spark: SparkSettings = SparkSettings()
    worker: WorkerSettings = WorkerSettings()
    catalog: CatalogSettings = CatalogSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()
    answers: AnswerSettings = AnswerSettings()
    generation: GenerationSettings = GenerationSettings()
    server: ServerSettings = ServerSettings()
    limits: LimitsSettings = LimitsSettings()
    cache: CacheSettings = CacheSettings()
    backup: BackupSettings = BackupSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())


def config_file() -> Path:
    return Path(os.environ.get(CONFIG_FILE_VARIABLE, DEFAULT_CONFIG_FILE))


def load_settings(**overrides: Any) -> Settings:
    """Reads and checks all settings. Raises ConfigError with one line for each mistake."""
    named_file = os.environ.get(CONFIG_FILE_VARIABLE)
    if named_file and not Path(named_file).is_file():
        raise ConfigError(f"{CONFIG_FILE_VARIABLE} names {named_file}, which is not a file.")
    unknown = sorted(unknown_variables(os.environ))
    if unknown:
        raise ConfigError(
            f"Unknown environment variables: {', '.join(unknown)}. `kb config` lists the names there are."
        )
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigError("\n".join(_mistakes(error))) from error
    except ValueError as error:  # a kb.toml that is not TOML
        raise ConfigError(f"{config_file()} can't be read: {error}") from error


def _mistakes(error: ValidationError) -> Iterator[str]:
    for mistake in error.errors():
        name = ".".join(str(part) for part in mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            yield f"{name}: there is no such setting. `kb config` lists the names there are."
        else:
            yield f"{name}: {mistake['msg']} (got {mistake['input']!r})"


def leaves(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every setting, such as ("server", "port")."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name)


def variable_name(path: tuple[str, ...]) -> str:
    return ENV_PREFIX + "__".join(path).upper()


def unknown_variables(environment: Mapping[str, str]) -> set[str]:
    """Variables with our prefix that are no setting of ours: most likely typing errors."""
    known = {variable_name(path) for path in leaves(Settings)} | {CONFIG_FILE_VARIABLE}
    return {name for name in environment if name.startswith(ENV_PREFIX)} - known
