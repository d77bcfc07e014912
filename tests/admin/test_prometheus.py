"""Figures for Prometheus: a parser that is not ours reads them, and finds ZooKeeper's families."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.admin.test_admin import STATUS, make_view
from zkpy.admin.commands import NS_PER_MS, ServerView, figures, monitor
from zkpy.admin.metrics import Metrics
from zkpy.admin.prometheus import COUNTERS, families, process_families, render
from zkpy.replica.status import Status
from zkpy.zab.counts import Timings

LISTED = Path(__file__).parent / "testdata" / "prometheus-3.9.5.txt"
OURS = {
    "bytes_sent_count": "counter",
    "connection_dropped": "counter",
    "current_epoch": "gauge",
    "disk_low": "gauge",
    "learner_lag": "gauge",
    "max_learner_lag": "gauge",
}
"""What ZooKeeper does not have."""
WITHOUT_SAMPLES = (
    "connection_token_deficit election_time follower_sync_time inflight_diff_count "
    "inflight_snap_count leader_unavailable_time node_changed_watch_count "
    "node_children_watch_count node_created_watch_count node_deleted_watch_count "
    "observer_sync_time unavailable_time"
).split()
"""Summaries of which only count and sum are kept; docs/metrics.md says so."""


def registered() -> dict[str, tuple[str, list[str], bool]]:
    """Name -> kind, quantiles, whether each sample has the label `key`."""
    found = {}
    for line in LISTED.read_text().splitlines():
        name, _, rest = line.partition(" ")
        if name != "#":
            kind, *more = rest.split()
            quantiles = [each for part in more if part != "key" for each in part.split(",")]
            found[name] = (kind, quantiles, "key" in more)
    return found


def leader_view() -> ServerView:
    timings = Timings()
    for sid in (1, 3):
        timings.acks_of(sid).add(4 + sid)
    status = Status(
        **{
            **{field: getattr(STATUS, field) for field in ("zxid", "znodes", "data_bytes")},
            **{field: getattr(STATUS, field) for field in ("ephemerals", "watches", "sessions")},
        },
        mode="leader",
        outstanding=0,
        packets_received=10,
        packets_sent=11,
        links=lambda: iter(()),
        server_id=1,
        standalone=False,
        voters=3,
        leading_since_ms=0,
        proposal_sizes=(3, 2, 9),
        timings=timings,
    )
    return make_view(status=status)


def parse(text: str) -> dict[str, Metric]:
    """By the names that stand in the text: the parser takes `_total` from a counter's."""
    found = {}
    for family in text_string_to_metric_families(text):
        whole = f"{family.name}_total"
        found[whole if f"# TYPE {whole} " in text else family.name] = family
    return found


def all_views() -> Iterator[ServerView]:
    yield make_view()
    yield make_view(mode="follower", status=STATUS)
    yield leader_view()


def test_families_have_the_kind_that_they_have_in_zookeeper() -> None:
    known, seen = registered(), set()
    for view in all_views():
        for family in families(figures(view)):
            kind = known[family.name][0] if family.name in known else OURS[family.name]
            assert (family.name, family.kind) == (family.name, kind)
            seen.add(family.name)
    assert {"fsynctime", "ack_latency", "znode_count", "proposal_count", "learners"} <= seen
    assert {name for name, (kind, *_) in known.items() if kind == "counter"} >= COUNTERS - set(OURS)


def test_summaries_have_zookeepers_quantiles_and_labels() -> None:
    known = registered()
    for view in all_views():
        for name, family in parse(render(view)).items():
            if family.type != "summary":
                continue
            _, quantiles, keyed = known[name]
            shown = sorted({s.labels["quantile"] for s in family.samples if "quantile" in s.labels})
            assert (name, shown) == (name, [] if name in WITHOUT_SAMPLES else quantiles)
            assert all(("key" in sample.labels) is keyed for sample in family.samples)
            suffixes = {sample.name.removeprefix(name) for sample in family.samples}
            assert suffixes - {""} == {"_count", "_sum"}


def test_every_number_of_mntr_is_there_and_no_word() -> None:
    view = leader_view()
    numbers = {key for key, value in figures(view).items() if not isinstance(value, str)}
    wanted = {"ack_latency" if key[0].isdigit() else key for key in numbers}
    assert {family.name for family in families(figures(view))} == wanted
    words = monitor(view).keys() - numbers
    assert {"version", "server_state", "peer_state"} <= words


def test_values_are_those_of_mntr() -> None:
    metrics = Metrics(bytes_received=77)
    for value in (2, 3, 40):
        metrics.reads.add(value * NS_PER_MS)
        metrics.sync.add(value * NS_PER_MS)
    found = parse(render(make_view(metrics=metrics)))
    assert [s.value for s in found["bytes_received_count"].samples] == [77.0]
    assert [s.value for s in found["znode_count"].samples] == [7.0]
    reads = {(s.name, s.labels.get("quantile")): s.value for s in found["readlatency"].samples}
    assert reads == {
        ("readlatency", "0.5"): 3.0,
        ("readlatency", "0.9"): 40.0,
        ("readlatency", "0.99"): 40.0,
        ("readlatency_count", None): 3.0,
        ("readlatency_sum", None): 45.0,
    }
    assert [s.value for s in found["fsynctime"].samples] == [3.0, 3.0, 45.0]
    assert all(math.isnan(s.value) for s in found["updatelatency"].samples if s.labels)


def test_acknowledgements_are_told_by_member() -> None:
    samples = parse(render(leader_view()))["ack_latency"].samples
    medians = {s.labels["key"]: s.value for s in samples if s.labels.get("quantile") == "0.5"}
    assert medians == {"1": 5.0, "3": 7.0}


def test_the_process_has_the_names_of_all_libraries() -> None:
    found = parse(render(make_view()))
    assert found["process_cpu_seconds_total"].type == "counter"
    for name in ("resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds"):
        assert found[f"process_{name}"].type == "gauge"
    resident = found["process_resident_memory_bytes"].samples[0].value
    assert 2**22 < resident < found["process_virtual_memory_bytes"].samples[0].value
    assert found["process_start_time_seconds"].samples[0].value > 1.6e9


def test_a_system_that_tells_little_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **more: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr("builtins.open", refuse)
    names = [family.name for family in process_families()]
    assert names == ["process_cpu_seconds_total", "process_max_fds"]
