"""What is counted, for Prometheus. Labels never hold questions, texts or names of documents."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

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
