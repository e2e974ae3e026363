"""`kb sync --engine spark` for spark-submit; its arguments are those of `kb sync`.

    spark-submit --master yarn deploy/spark/sync.py --collection handbook --json

The Python of the driver must have kb-server[spark]; docs/spark.md says what executors need.
"""

import sys

# What --py-files gives is for executors: the driver migrates the catalogue by files of the installed one.
sys.path.sort(key=lambda place: place.endswith(".zip"))

from serving.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["sync", "--engine", "spark"]
    main()
