"""`python -m shardprof`: the same as the `shardprof` command."""

import sys

from shardprof.cli import main

sys.exit(main())
