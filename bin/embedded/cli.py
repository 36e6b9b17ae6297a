"""Commands of bin/stack."""

import errno
import sys

from embedded import environment, services, venv
from embedded.console import Problem, say
from embedded.state import State

USAGE = """\
Usage: bin/stack up | down | clean | status | venv [--dev] | env COMMAND...
  up       start PostgreSQL, the mail and SFTP sinks and Airflow, and wait until they work
  down     end them
  clean    end them and remove the state folder
  status   say what runs
  venv     make the virtual environment, or bring it up to date; --dev: with what tests and checks need
  env      run a command inside the environment (also: bin/env COMMAND...)
State lives in $CAMPAIGN_STATE_DIR, or in .local/ in the project."""


def main(arguments: list[str]) -> int:
    """Run one command; a Problem becomes a plain message."""
    try:
        return _run(arguments)
    except Problem as problem:
        say(f"\nCampaign Workflows: {problem}")
    except KeyboardInterrupt:
        say("\nInterrupted.")
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        say(f"\nCampaign Workflows: {error.strerror}: {error.filename or 'the disk'}")
    return 1


def _run(arguments: list[str]) -> int:
    state = State.from_environment()
    match arguments:
        case ["up"]:
            services.up(state)
        case ["down"]:
            services.down(state)
        case ["clean"]:
            services.clean(state)
        case ["status"]:
            return 0 if services.status(state) else 1
        case ["venv"]:
            venv.ensure()
        case ["venv", "--dev"]:
            venv.ensure(dev=True)
        case ["env", command, *rest]:
            environment.run(state, [command, *rest])
        case _:
            print(USAGE, file=sys.stderr)
            return 0 if arguments in (["help"], ["--help"], ["-h"]) else 2
    return 0
