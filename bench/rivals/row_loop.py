"""The usual version of `trigger_loop`: the same loop, with a transaction for each write of a row.

`python -m bench.rivals.row_loop AMQP_URL CREW_URL POSTGRESQL_URL`.
"""

import sys

import uvloop

from bench.rivals.trigger_loop import main

if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], batch=1))
