"""Which variant and which instance a request goes to, and what a change of the table does to requests in flight."""

import asyncio
import json
import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from local_sagemaker.hosting.routing import RoutingStrategy, RoutingTable, Variant, WeightedChoice, by_affinity

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.containers import always, answer

REQUEST = b"POST /endpoints/digits/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


async def burst(port, count, connections, between=lambda: None):
    """Send `count` requests over as many connections at once; the statuses and variants of the answers."""
    found = Counter()
    left = iter(range(count))

    async def client():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = dict(line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
            await reader.readexactly(int(lines[b"Content-Length"]))
            found[head[9:12].decode(), lines.get(b"x-Amzn-Invoked-Production-Variant", b"").decode()] += 1
            between()
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return found


def test_ten_thousand_invocations_are_shared_7_to_3(containers, make_endpoint):
    """20.3."""
    blue, green = containers.start(), containers.start()
    endpoint = make_endpoint(
        Variant("blue", (blue.instance("b"),), weight=7.0), Variant("green", (green.instance("g"),), weight=3.0), seed=1
    )
    found = asyncio.run(burst(endpoint.port, 10_000, 64))
    deviation = math.sqrt(10_000 * 0.7 * 0.3)
    assert sum(found.values()) == 10_000
    assert abs(found["200", "blue"] - 7000) < 3 * deviation
    assert (len(blue.asked), len(green.asked)) == (found["200", "blue"], found["200", "green"])


def test_changes_of_weights_and_instances_under_load_lose_no_invocation(containers, make_endpoint):
    """20.3, 20.5."""
    blue, green, later = (containers.start() for _ in range(3))
    variants = (Variant("blue", (blue.instance("b"),)), Variant("green", (green.instance("g"),)))
    first = RoutingTable(variants)
    second = RoutingTable((variants[0], Variant("green", (later.instance("l"), green.instance("g")))))
    endpoint = make_endpoint(table=first, seed=2)
    off = RoutingTable((replace(variants[0], weight=0.0), variants[1]))
    less = RoutingTable((variants[0], replace(second.variants[1], weight=0.1)))
    without = RoutingTable((variants[0], Variant("green", (later.instance("l"),))))
    tables = [first, off, second, less, without]
    answered = 0

    def swap():
        nonlocal answered
        answered += 1
        if answered % 40 == 0:
            endpoint.router.set_table(tables[answered // 40 % len(tables)])

    found = asyncio.run(burst(endpoint.port, 10_000, 500, swap))
    assert {status for status, _ in found} == {"200"}
    assert sum(found.values()) == 10_000
    assert all(one.asked for one in (blue, green, later))
    assert endpoint.router.in_flight() == 0


def test_the_same_seed_gives_the_same_choice():
    """20.3."""
    choice = WeightedChoice([1.0, 2.0, 0.0, 3.0])
    draws = [[choice.draw(random) for _ in range(50)] for random in map(Random, (5, 5, 6))]
    assert draws[0] == draws[1] != draws[2]
    assert 2 not in draws[0]


def test_no_weight_is_no_choice():
    """20.3."""
    assert WeightedChoice([0.0, 0.0]).draw(Random(1)) is None  # noqa: S311


def test_a_variant_of_weight_0_gets_requests_only_if_they_name_it(containers, make_endpoint):
    """20.3."""
    blue, green = containers.start(), containers.start()
    endpoint = make_endpoint(
        Variant("blue", (blue.instance("b"),)), Variant("green", (green.instance("g"),), weight=0.0)
    )
    for _ in range(20):
        assert endpoint.post()[1]["x-Amzn-Invoked-Production-Variant"] == "blue"
    named = endpoint.post(X_Amzn_SageMaker_Target_Variant="green")
    assert named[1]["x-Amzn-Invoked-Production-Variant"] == "green"
    assert len(green.asked) == 1


def test_a_variant_that_is_not_there_is_a_validation_error(one):
    """15.4, 20.3."""
    endpoint, _ = one()
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match="Variant red not found"):
        client.invoke_endpoint(EndpointName="digits", Body=b"x", TargetVariant="red")


def test_two_fleets_of_a_variant_share_its_name_and_are_counted_apart(containers, make_endpoint):
    """20.5, 20.8."""
    old, new = containers.start(), containers.start(always(answer(b"", 500)))
    endpoint = make_endpoint(
        Variant("blue", (old.instance("o"),), weight=1.0),
        Variant("blue", (new.instance("n"),), weight=1.0, fleet="green"),
        seed=3,
    )
    statuses = Counter(endpoint.post(X_Amzn_SageMaker_Target_Variant="blue")[0] for _ in range(30))
    assert set(statuses) == {200, 424}
    assert endpoint.metrics().model_errors == 0
    assert endpoint.metrics(fleet="green").model_errors == statuses[424] == len(new.asked)


def test_the_least_busy_instance_is_asked(containers, make_endpoint):
    """20.3."""
    release = containers.event()

    async def stuck(asked, writer):
        await release.wait()
        writer.write(answer())

    slow, quick = containers.start(stuck), containers.start()
    variant = Variant(
        "blue",
        (slow.instance("s"), quick.instance("q")),
        strategy=RoutingStrategy.LEAST_OUTSTANDING_REQUESTS,
    )
    endpoint = make_endpoint(variant, seed=1)
    held = []
    while not slow.asked:
        held.append(endpoint.connect())
        held[-1].sendall(REQUEST)
        asked = len(held)
        wait_until(lambda: len(slow.asked) + len(quick.asked) == asked, "a request has arrived")  # noqa: B023
    before = len(quick.asked)
    for _ in range(20):
        assert endpoint.post()[0] == 200
    assert len(quick.asked) == before + 20
    containers.tell(release)
    for client in held:
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.close()


def test_random_routing_uses_every_instance(containers, make_endpoint):
    """20.3."""
    made = [containers.start() for _ in range(3)]
    variant = Variant("blue", tuple(one.instance(f"i{place}") for place, one in enumerate(made)))
    endpoint = make_endpoint(variant, seed=4)
    for _ in range(60):
        endpoint.post()
    assert all(len(one.asked) > 5 for one in made)


def test_draining_waits_until_an_instance_has_answered(containers, make_endpoint):
    """20.5."""
    release = containers.event()

    async def stuck(asked, writer):
        await release.wait()
        writer.write(answer())

    old, new = containers.start(stuck), containers.start()
    endpoint = make_endpoint(Variant("blue", (old.instance("o"),)))
    with endpoint.connect() as client:
        client.sendall(REQUEST)
        wait_until(lambda: old.asked, "the request has arrived")
        endpoint.router.set_table(RoutingTable((Variant("blue", (new.instance("n"),)),)))
        assert endpoint.post()[0] == 200
        assert not endpoint.router.drain("o", 0.05)
        assert endpoint.router.in_flight("o") == 1
        containers.tell(release)
        assert endpoint.router.drain("o", 30)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert endpoint.router.in_flight("o") == 0


def test_more_requests_than_connections_wait_in_line(containers, make_endpoint):
    """15.2."""
    from local_sagemaker.hosting.limits import InvocationLimits

    container = containers.start()
    endpoint = make_endpoint(Variant("blue", (container.instance(),)), limits=InvocationLimits(connections=2))
    found = asyncio.run(burst(endpoint.port, 500, 50))
    assert found == {("200", "blue"): 500}
    assert container.connections <= 2


def test_more_than_a_serverless_variants_concurrency_is_throttled(containers, make_endpoint):
    """18.1."""
    release = containers.event()

    async def stuck(asked, writer):
        await release.wait()
        writer.write(answer())

    container = containers.start(stuck)
    endpoint = make_endpoint(Variant("blue", (container.instance(),), max_concurrency=1))
    with endpoint.connect() as client:
        client.sendall(REQUEST)
        wait_until(lambda: container.asked, "the request has arrived")
        status, headers, _ = endpoint.post()
        assert (status, headers["x-amzn-ErrorType"]) == (429, "ThrottlingException")
        containers.tell(release)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_serverless_variants_payload_limit_is_its_own(containers, make_endpoint):
    """18.3."""
    container = containers.start()
    endpoint = make_endpoint(Variant("blue", (container.instance(),), payload_bytes=10))
    status, _, body = endpoint.post(body=b"x" * 11)
    assert (status, json.loads(body)["Message"]) == (413, "Request 11 bytes exceeds the limit of 10 bytes.")


def test_a_request_for_a_sleeping_variant_wakes_it(containers, make_endpoint):
    """18.5."""
    from local_sagemaker.hosting.hooks import Hooks

    container = containers.start()
    endpoint = None

    async def wake(variant):
        endpoint.router.set_table(RoutingTable((Variant(variant, (container.instance(),)),)))

    endpoint = make_endpoint(Variant("blue"), hooks=Hooks(wake=wake))
    assert endpoint.post()[0] == 200


def test_most_models_keep_their_instance_when_one_comes():
    """15.28."""
    before = {f"m{n}": by_affinity(["a", "b", "c"], f"m{n}")[0] for n in range(300)}
    after = {key: by_affinity(["a", "b", "c", "d"], key)[0] for key in before}
    assert all(after[key] in {place, 3} for key, place in before.items())
    assert 30 < sum(place == 3 for place in after.values()) < 130
