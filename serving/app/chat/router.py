"""POST /v1/chat/completions: streaming or not, the same answer with the same citations."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.answer import Answer, answer, deltas
from serving.app.chat.protocol import ChatRequest, annotations, evidence
from serving.app.dependencies import AccessDep, ServicesDep, collection_of
from serving.searching import bound_search

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])


@router.post("")
async def complete(
    body: ChatRequest, request: Request, services: ServicesDep, access: AccessDep
) -> Response:
    """The answer is made before the response begins, so a failure gets a real status."""
    messages = body.conversation()
    collection = await collection_of(body.model, services)
    live = await services.live(collection)
    embedder = live.embedder
    result = await answer(
        messages,
        search=bound_search(live, services.settings, access),
        embedder=embedder,
        settings=services.settings.answers,
    )
    prompt_tokens = sum(embedder.count_tokens([message.content for message in messages]))
    completion_tokens = sum(embedder.count_tokens([result.text]))
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
    extras = evidence(result, collection, str(request.base_url))
    marks = annotations(result, str(request.base_url))
    if not body.stream:
        return JSONResponse(completion(head, result, marks, extras, usage))
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    chunks = completion_chunks(head, result, marks, extras, usage if with_usage else None)
    return StreamingResponse(server_sent_events(chunks), media_type="text/event-stream")


def completion(
    head: dict[str, Any],
    result: Answer,
    marks: list[dict[str, Any]],
    extras: dict[str, Any],
    usage: dict[str, int],
) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": result.text,
        "refusal": None,  # OpenAI's word for a safety refusal; ours is in `kb.refusal`.
        "annotations": marks,
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage, **extras}


def completion_chunks(
    head: dict[str, Any],
    result: Answer,
    marks: list[dict[str, Any]],
    extras: dict[str, Any],
    usage: dict[str, int] | None,
) -> list[dict[str, Any]]:
    """Role, text, then the last delta with annotations and citations; usage where asked for."""

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**head, "object": "chat.completion.chunk", "choices": [choice], **more}

    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": text}) for text in deltas(result)]
    chunks.append(chunk({"annotations": marks}, "stop", **extras))
    if usage:
        chunks.append({**chunk({}), "choices": [], "usage": usage})
    return chunks


async def server_sent_events(chunks: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield b"data: " + orjson.dumps(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"
