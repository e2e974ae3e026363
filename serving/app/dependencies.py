"""What routes are given: the services of this process, and the collection that a model id names."""

from typing import Annotated

from fastapi import Depends, Request

from kb.errors import NotFoundError
from kb.types import UNRESTRICTED, Access
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.uploads import UploadQueue

MODEL_PREFIX = "kb"


class ModelNotFound(NotFoundError):
    code = "model_not_found"


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def uploads_of(request: Request) -> UploadQueue:
    uploads: UploadQueue = request.app.state.uploads
    return uploads


def access_of(_: Request) -> Access:
    """Without keys only this machine may connect, and it sees everything."""
    return UNRESTRICTED


ServicesDep = Annotated[Services, Depends(services_of)]
UploadsDep = Annotated[UploadQueue, Depends(uploads_of)]
AccessDep = Annotated[Access, Depends(access_of)]


def model_of(collection: str) -> str:
    return MODEL_PREFIX if collection == DEFAULT_COLLECTION else f"{MODEL_PREFIX}/{collection}"


async def collection_of(model: str, services: Services) -> str:
    """`kb` is the default collection, `kb/<name>` the one of that name. Raises ModelNotFound."""
    prefix, _, name = model.partition("/")
    try:
        if prefix == MODEL_PREFIX:
            return (await services.catalog.collection(name or DEFAULT_COLLECTION)).name
    except NotFoundError:
        pass  # Said below in the caller's word: to an OpenAI client a collection is a model.
    models = ", ".join(model_of(c.name) for c in await services.catalog.collections())
    raise ModelNotFound(
        f"There is no model {model!r}. "
        + (f"There are: {models}." if models else "Nothing is ingested yet.")
    )
