"""Old bugs, put back: found by a few seeds each, and gone again afterwards.

How long random seeds take to find each is measured by `zkpy simulate --mutant all`; here is
only shown that the checkers still see what they saw then.
"""

from collections.abc import Callable
from functools import partial

import pytest

from tests.sim import test_elections as elections
from tests.sim import test_faults as faults
from tests.sim import test_regressions as regressions
from tests.sim import test_sessions as sessions
from tests.sim import test_synchronisation as sync
from tests.zab import test_leader as leader
from tests.zab.scripted import CLUSTER
from wire.codes import OpCode
from wire.errors import RemoteProtocolError
from wire.peer import Standing
from zkpy.testing.mutants import MUTANTS, planted
from zkpy.testing.script import ScriptError
from zkpy.testing.simulation import DRAWN, Choice, run_seed
from zkpy.testing.world import Violation
from zkpy.zab.window import Window

pytestmark = pytest.mark.patches

QUICK = ("1113", "1863", "2845", "335", "4646", "4882", "5010")
"""Found by nearly every seed."""
TRIES = 15


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_found(name: str) -> None:
    with planted(name):
        results = (run_seed(seed, DRAWN)[0] for seed in range(1, TRIES + 1))
        assert any(result.violation is not None for result in results)


def test_a_change_that_is_counted_by_one_set_alone_is_found() -> None:
    with planted("1699"):
        results = (run_seed(seed, Choice(reconfig=True))[0] for seed in range(1, TRIES + 1))
        assert any(result.violation is not None for result in results)


def test_every_mutant_can_be_planted_and_is_gone_afterwards() -> None:
    before = Window.take_committed
    for mutant in MUTANTS:
        with planted(mutant.name):
            pass
    assert Window.take_committed is before
    result, _ = run_seed(1, Choice(members=3, seconds=2))
    assert result.violation is None, result.text


def test_mutants_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 6
    assert {"3911", "4643", "2845", "4712", "1113", "1208"} <= set(names)


SCENARIOS: dict[str, Callable[[], None]] = {
    "3911": partial(sync.test_t_sync_1_back_in_the_same_epoch_while_an_older_batch_is_written, 300),
    "4643": partial(sync.test_t_sync_2_elected_though_it_died_within_its_synchronisation, 7),
    "4646": partial(sync.test_t_sync_1_a_member_dies_in_a_batch_of_its_synchronisation, 3, 1, True),
    "4882": partial(faults.test_t_disk_1_a_failing_disk_ends_the_process, "write", "follower"),
    "4712": partial(sync.test_t_role_1_one_writer_of_the_log, "leader"),
    "2845": sync.test_t_trunc_1_no_image_holds_what_is_cut_later,
    "4925": partial(faults.test_t_sync_6_the_link_ends_behind_every_message, 1000),
    "1113": partial(leader.test_these_never_count, 4, Standing.MEMBER, CLUSTER),
    "2959": partial(leader.test_promises_of_those_without_a_vote_open_no_epoch, 4),
    "335": partial(elections.test_t_meta_1_crash_at_every_call_of_an_election, 9, "heir"),
    "1208": partial(
        sessions.test_t_ses_1_a_write_beside_the_expiry_of_its_session,
        630,
        (OpCode.CLOSE_SESSION, None),
    ),
    "710": sessions.test_t_ses_4_a_session_that_moves_is_not_moved_for_good,
    "1863": sessions.test_t_watch_2_watches_and_ephemerals_end_with_their_sessions,
    "1675": leader.test_confirms_its_leadership_by_a_later_round,
    "1699": leader.test_a_joint_set_needs_both_quorums,
    "5010": sessions.test_t_watch_2_watches_and_ephemerals_end_with_their_sessions,
    "amnesia": partial(
        sync.test_t_amnesia_2_a_wiped_member_beside_a_leader_of_an_earlier_epoch, 20
    ),
    "numbers": regressions.test_forward_numbers_go_on_through_a_change_of_role,
}
SEEN = (AssertionError, Violation, ScriptError, RemoteProtocolError)
SLOW = {"2774"}
"""`test_t_clk_1_...` fails with it too, but only after a minute of expiring over and over."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_fails_with_the_bug_that_it_keeps_out(name: str) -> None:
    with planted(name), pytest.raises(SEEN):
        SCENARIOS[name]()


def test_every_mutant_has_a_scenario() -> None:
    assert {mutant.name for mutant in MUTANTS} == set(SCENARIOS) | SLOW
