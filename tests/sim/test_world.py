"""Virtual time: order, streams, the hash of a run."""

from zkpy.testing.world import World, exponential


def test_events_run_by_time_and_then_in_the_order_of_scheduling() -> None:
    world, ran = World(1), list[str]()
    world.at(20, ran.append, "late")
    world.at(10, ran.append, "first")
    world.at(10, ran.append, "second")
    world.run_until(20)
    assert ran == ["first", "second", "late"]


def test_the_past_is_now() -> None:
    world, seen = World(1), list[int]()
    world.at(10, lambda: world.at(3, lambda: seen.append(world.now)))
    world.run_until(50)
    assert seen == [10]
    assert world.now == 50


def test_nothing_beyond_the_limit_runs() -> None:
    world, ran = World(1), list[int]()
    world.at(11, ran.append, 1)
    world.run_until(10)
    assert ran == []
    world.run_until(11)
    assert ran == [1]


def test_a_condition_ends_the_run_at_once() -> None:
    world, ran = World(1), list[int]()
    for at in range(10):
        world.at(at, ran.append, at)
    assert world.run_until(100, stop=lambda: len(ran) == 3)
    assert ran == [0, 1, 2]


def test_streams_depend_on_seed_and_name_alone() -> None:
    first, second = World(5), World(5)
    second.stream("other").random()
    assert first.stream("a").random() == second.stream("a").random()
    assert first.stream("a").random() != first.stream("b").random()
    assert World(6).stream("a").random() != first.stream("a").random()


def test_the_hash_tells_data_and_times_apart() -> None:
    def hash_of(*mixed: tuple[int, bytes]) -> int:
        world = World(1)
        for at, data in mixed:
            world.now = at
            world.mix(data)
        return world.trace_hash

    assert hash_of((1, b"a"), (2, b"b")) == hash_of((1, b"a"), (2, b"b"))
    assert hash_of((1, b"a"), (2, b"b")) != hash_of((1, b"b"), (2, b"a"))
    assert hash_of((1, b"a")) != hash_of((2, b"a"))


def test_waiting_times_are_positive_and_have_their_mean() -> None:
    rng = World(1).stream("x")
    drawn = [exponential(rng, 1000) for _ in range(5000)]
    assert min(drawn) >= 1
    assert 900 < sum(drawn) / len(drawn) < 1100
