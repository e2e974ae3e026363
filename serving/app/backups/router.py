"""List, make and verify under /v1/admin/backups.

Restoring is for the command line alone: it writes into an empty knowledge base, and whoever answers here
is not empty.
"""

import asyncio

from fastapi import APIRouter

from serving.app.backups.protocol import BackupList, BackupVerified, backup_body
from serving.app.dependencies import KeyDep, QueueDep, ServicesDep, id_of
from serving.app.runs.protocol import RunBody, run_body
from serving.backup.kept import BackupDamaged, backups, folder_of, named
from serving.backup.restoring import check
from serving.queued_work import BACKUP
from serving.run_queue import queued_run

router = APIRouter(prefix="/v1/admin/backups", tags=["backups"])


@router.get("")
async def list_backups(services: ServicesDep) -> BackupList:
    """The finished ones of the folder that `backup.folder` names, newest first."""
    folder = folder_of(services.settings)
    found = await asyncio.to_thread(backups, folder)
    return BackupList(data=[backup_body(each) for each in found])


@router.post("", status_code=202)
async def create_backup(services: ServicesDep, queue: QueueDep, key: KeyDep) -> RunBody:
    """Queues a backup and gives its run; when that is done, the backup is the newest of the list.

    Searches and ingests go on meanwhile. It is restored by `kb backup restore`.
    """
    folder_of(services.settings)  # That there is none is said at once.
    return run_body(await queue.add(queued_run(BACKUP, None, requested_by=id_of(key))))


@router.post("/{name}/verify")
async def verify_backup(name: str, services: ServicesDep) -> BackupVerified:
    """Reads it whole: every file as it was written, index and catalogue in agreement."""
    folder = folder_of(services.settings)
    place = await asyncio.to_thread(named, folder, name)
    try:
        await check(place, services)
    except BackupDamaged as damage:
        return BackupVerified(name=name, intact=False, problem=damage.message)
    return BackupVerified(name=name, intact=True, problem=None)
