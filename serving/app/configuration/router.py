"""GET /v1/admin/configuration."""

import asyncio

from fastapi import APIRouter

from serving.app.configuration.protocol import SettingList, setting_list
from serving.app.dependencies import ServicesDep
from serving.setting_rows import setting_rows

router = APIRouter(prefix="/v1/admin/configuration", tags=["configuration"])


@router.get("")
async def get_configuration(services: ServicesDep) -> SettingList:
    """The settings in force, and where each comes from; secrets are starred."""
    return setting_list(await asyncio.to_thread(setting_rows, services.settings))
