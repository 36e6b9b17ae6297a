"""Two runs of a workflow at once, a scheduled one and a backfill: the same end as one after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from tests.trust.comparison import content, describe, differences, journal_messages
from tests.trust.conftest import OpenHouse
from tests.trust.month import Month, moments
from tests.trust.player import WORKFLOWS, Player
from tests.trust.tally import SEED, count, size
from tests.trust.world import DAY

SECONDS_A_RUN = 120


def runs_of(player: Player, dag_id: str, moment: datetime) -> list[Callable[[], Any]]:
    """Return a scheduled run, the backfill of the same moment, and that of the day before."""
    names = {"scheduled": moment, "backfill": moment, "backfill of yesterday": moment - DAY}
    return [
        lambda name=name, as_of=as_of: player.run(dag_id, as_of, run_id=f"{name} {moment.isoformat()}")
        for name, as_of in names.items()
    ]


def play(player: Player, *, at_once: bool) -> None:
    """Play a month with three runs of each workflow at each moment."""
    month = Month(player.house, SEED)
    with ThreadPoolExecutor(3) as pool:
        for moment in moments(size(short=3, long=14)):
            month.act(moment)
            for dag_id in WORKFLOWS:
                runs = runs_of(player, dag_id, moment)
                if at_once:
                    started = [pool.submit(run) for run in runs]
                    for one in started:
                        one.result(SECONDS_A_RUN)
                else:
                    for run in runs:
                        run()
                player.airflow.execute_queued(moment)


def test_runs_at_once_end_as_one_after_the_other(open_house: OpenHouse) -> None:
    found, journals, mails, files = [], [], [], []
    for at_once in (False, True):
        with open_house() as player:
            play(player, at_once=at_once)
            found.append(content(player.house.db))
            journals.append(journal_messages(player.house.db))
            mails.append(player.outside.subjects())
            files.append(list(player.outside.files()))
            arrived = player.outside.mails()
            assert [key for key, number in arrived.items() if number > 1] == []
            count(runs=player.runs, mails=len(arrived), files=len(files[-1]))
    different = differences(*found)
    count(differences=len(different))
    assert different == {}, describe(different)
    assert journals[1] == journals[0]
    assert mails[1] == mails[0]
    assert files[1] == files[0]
