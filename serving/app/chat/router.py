"""POST /v1/chat/completions: streaming or not, the same answer with the same citations."""

from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from kb.types import Hit
from serving.answering.answer import answer_events, last_answer
from serving.answering.events import Event
from serving.app.chat.completions import Completion
from serving.app.chat.protocol import ChatRequest
from serving.app.dependencies import AccessDep, CacheDep, ServicesDep, live_of_model
from serving.app.hang_up import unless_gone
from serving.app.questions import log_question
from serving.caching.cache import View
from serving.searching import bound_search

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])


@router.post("", responses={200: {"content": {"text/event-stream": {}}}})
async def complete(
    body: ChatRequest, request: Request, services: ServicesDep, access: AccessDep, cache: CacheDep
) -> Response:
    """The answer has begun before the response does, so a failure until then gets a real status."""
    messages = body.conversation()
    sampling = body.sampling()
    log_question(messages[-1].content, services.settings.log)
    live = await live_of_model(body.model, services, access)
    view = View(live.generation, access)
    find = bound_search(live, services, access, seconds=services.settings.search.timeout_s)

    async def search(question: str) -> list[Hit]:
        found = await cache.search(question, services.settings.answers.passages, view, find)
        return found.hits

    def made() -> AsyncGenerator[Event, None]:
        return answer_events(
            messages,
            search=search,
            embedder=live.embedder,
            answering=services.answering(),
            sampling=sampling,
            whole=not body.stream,
        )

    events = cache.answer_events(messages, sampling, view, made)
    completion = Completion.begin(
        model=body.model,
        collection=live.generation.collection,
        base_url=str(request.base_url),
        messages=messages,
        embedder=live.embedder,
        is_structured=sampling.is_structured,
    )
    if not body.stream:
        answer = await unless_gone(request, last_answer(events))
        return JSONResponse(completion.whole(answer))
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    first = await unless_gone(request, _first(events))
    sent = completion.events(first, events, with_usage)
    return StreamingResponse(sent, media_type="text/event-stream")


async def _first(events: AsyncGenerator[Event, None]) -> Event:
    return await anext(events)
