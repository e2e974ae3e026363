"""What is counted, for Prometheus. Labels never hold questions, texts or names of documents."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from kb import tracing

_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)

ANSWERS: Final = Counter(
    "kb_answers_total", "Answers, by who gave them.", ["answered_by", "degraded", "refused"]
)
ANSWERS_INTERRUPTED: Final = Counter(
    "kb_answers_interrupted_total", "Answers that ended with an error after text had been sent."
)
ANSWERS_ABANDONED: Final = Counter(
    "kb_answers_abandoned_total", "Answers whose client hung up before the end."
)
GENERATION_FAILURES: Final = Counter(
    "kb_generation_failures_total", "Failed tries to answer, by rung and error.", ["rung", "code"]
)
RETRIEVAL: Final = Histogram(
    "kb_answer_retrieval_seconds",
    "From the question to the passages and their evidence, before any model is asked.",
    buckets=_SECONDS,
)
FIRST_TEXT: Final = Histogram(
    "kb_answer_first_text_seconds",
    "From the question to the first text, search included.",
    ["answered_by"],
    buckets=_SECONDS,
)
ANSWER: Final = Histogram(
    "kb_answer_seconds", "From the question to the whole answer.", ["answered_by"], buckets=_SECONDS
)
LIMITED: Final = Counter(
    "kb_requests_limited_total",
    "Requests refused, by limit (rate, concurrency, overload); redis_unavailable: counted here alone.",
    ["limit"],
)
IN_FLIGHT: Final = Gauge("kb_requests_in_flight", "Requests worked on at this moment.")

CACHE: Final = Counter(
    "kb_cache_lookups_total",
    "Searches and answers looked for among those given before: hit, miss, unavailable (Redis is gone).",
    ["cache", "outcome"],
)

FEEDBACK: Final = Counter("kb_feedback_total", "Answers that readers rated.", ["rating"])

# --- Requests and their stages ------------------------------------------------------------------

REQUESTS: Final = Histogram(
    "kb_request_seconds",
    "From a request's arrival to the last byte of its answer.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60),
)
ERRORS: Final = Counter("kb_errors_total", "Errors that clients were told, by code.", ["code"])
STAGES: Final = Histogram(
    "kb_search_stage_seconds",
    "Stages of a search: embed (the question), index (both sides), rank (fusion).",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)


@contextmanager
def stage(name: str, histogram: Histogram | None = None) -> Iterator[None]:
    """Times a stage, of a search where no other histogram is given, and makes it a span of its trace."""
    with (histogram or STAGES.labels(name)).time(), tracing.part(name):
        yield


# --- What is known when it is asked for ---------------------------------------------------------

UPLOADS_WAITING: Final = Gauge("kb_uploads_waiting", "Uploads that wait to be indexed.")
RUNS_QUEUED: Final = Gauge(
    "kb_runs_queued",
    "Runs that wait in a lane of the queue (documents, sources, indexes).",
    ["lane"],
)
BREAKER_OPEN: Final = Gauge(
    "kb_breaker_open", "1 while a rung's model is left alone after failures.", ["rung", "replica"]
)
DOCUMENTS: Final = Gauge("kb_documents", "Documents by status.", ["collection", "status"])
CHUNKS: Final = Gauge("kb_chunks", "Chunks of the documents.", ["collection"])
GENERATION: Final = Gauge("kb_index_generation", "Number of the live index.", ["collection"])
LAST_SYNC: Final = Gauge(
    "kb_last_successful_sync_timestamp_seconds", "When a sync last ended well.", ["collection"]
)
LAST_RUN: Final = Gauge(
    "kb_last_run_documents",
    "Documents of the last ended run, by outcome.",
    ["collection", "outcome"],
)
ACCURACY: Final = Gauge(
    "kb_evaluation_accuracy",
    "Share of the golden questions that the live index answered rightly when last asked (0 to 1).",
    ["collection"],
)
GOLDEN_QUESTIONS: Final = Gauge(
    "kb_evaluation_questions", "Golden questions that were asked then.", ["collection"]
)
RUNS_RUNNING: Final = Gauge("kb_runs_running", "Runs going on.")
LAST_BACKUP: Final = Gauge(
    "kb_last_backup_timestamp_seconds", "When the newest backup was made; 0 without one."
)
DISK_FREE: Final = Gauge("kb_disk_free_bytes", "Free space where the data folder lies.")
DISK_SIZE: Final = Gauge("kb_disk_size_bytes", "Size of the disk where the data folder lies.")
