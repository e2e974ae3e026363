"""Backups. `making` writes one, `indexes` knows how it keeps indexes, `kept` reads what lies in a folder
of backups, and `restoring` checks one and brings it back.

A backup's folder holds `catalog.db`, `uploads/`, `settings.json` without secrets, and `manifest.json`
with the hash of every file. Live indexes with their vectors lie beside them in `index/`, as an embedded
index whatever they were taken from; or, where a repository is set, in a snapshot of Elasticsearch. The
first kind may go to another kind of index or database than it came from. Restoring embeds nothing.
"""
