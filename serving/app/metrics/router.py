"""GET /metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.app.dependencies import ServicesDep
from serving.gauges import refresh

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(services: ServicesDep) -> Response:
    """Counters and times of this process, and figures of what it serves, in Prometheus's text format."""
    await refresh(services)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
