"""The scenarios of the Python client `aetcd` (asyncio): everything of its API that one member serves."""

import asyncio
import re
import time

import aetcd
from aetcd import rpc

from harness import SCENARIO_LIMIT, ask, equal, main, scenario, sure

CALL_LIMIT = 10
EVENT_LIMIT = 15


class Scene:
    """One client and keys of its own for one scenario."""

    def __init__(self, name, host, port):
        self.prefix = f"aio-{name}/".encode()
        self.host, self.port = host, port
        self.clients = []
        self.client = self.another()

    def another(self, timeout=CALL_LIMIT):
        client = aetcd.Client(host=self.host, port=self.port, timeout=timeout)
        self.clients.append(client)
        return client

    def key(self, name):
        return self.prefix + name.encode()

    async def put(self, name, value, **more):
        """The revision of the put."""
        return (await self.client.put(self.key(name), value, **more)).header.revision

    async def values(self, **more):
        return [found.value for found in await self.client.get_prefix(self.prefix, **more)]

    async def events(self, watch, count):
        """The next events as (kind, key, value)."""
        taken = [await next_event(watch) for _ in range(count)]
        return [(event.kind, event.kv.key[len(self.prefix):].decode(), event.kv.value) for event in taken]

    async def close(self):
        for client in self.clients:
            await asyncio.wait_for(client.close(), 10)


def play(function, host, port):
    async def whole():
        scene = Scene(function.__name__, host, port)
        await scene.client.delete_prefix(scene.prefix)
        try:
            await asyncio.wait_for(function(scene), SCENARIO_LIMIT - 15)
        finally:
            await scene.close()

    asyncio.run(whole())


async def next_event(watch):
    return await asyncio.wait_for(watch.__aiter__().__anext__(), EVENT_LIMIT)


async def raises(kind, awaitable, text=""):
    """The exception of this kind that the call ends with; its text is compared when one is given."""
    try:
        answer = await awaitable
    except kind as error:
        if text:
            equal(str(error), text, "the error")
        return error
    raise AssertionError(f"answered {str(answer)[:200]} instead of failing")


async def until(limit, condition, what):
    """Asks until there is a true answer; a server that is away has none."""
    deadline = time.monotonic() + limit
    while True:
        try:
            answer = await condition()
        except (aetcd.ClientError, asyncio.TimeoutError):
            answer = None
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"within {limit} s not: {what}")
        await asyncio.sleep(0.1)


async def steer(what):
    await asyncio.get_running_loop().run_in_executor(None, ask, what)


# Keys and values


@scenario("KV.Put", fast=True)
async def put_and_get(scene):
    first = await scene.put("a", b"one")
    answer = await scene.client.put(scene.key("a"), b"two", prev_kv=True)
    equal((answer.prev_kv.value, answer.header.revision), (b"one", first + 1), "previous value and revision")
    found = await scene.client.get(scene.key("a"))
    equal((found.value, found.create_revision, found.mod_revision, found.version), (b"two", first, first + 1, 2), "found")
    equal(await scene.client.get(scene.key("none")), None, "a key that is not there")
    found = await scene.client.get(scene.key("a"), serializable=True)
    equal(found.value, b"two", "serializable")


@scenario("KV.Put", fast=True)
async def binary_and_empty_values(scene):
    for value in [b"", bytes(range(256)), "größer".encode()]:
        await scene.put("b", value)
        equal((await scene.client.get(scene.key("b"))).value, value, "the value")


@scenario("KV.Range", fast=True)
async def ranges(scene):
    for name in "cabd":
        await scene.put(name, name.encode())
    equal(await scene.values(), [b"a", b"b", b"c", b"d"], "by prefix")
    found = await scene.client.get_range(scene.key("b"), scene.key("d"))
    equal(([kv.value for kv in found], found.count, found.more), ([b"b", b"c"], 2, False), "by range")
    equal(await scene.values(keys_only=True), [b""] * 4, "keys only")
    keys = [kv.key for kv in await scene.client.get_all(keys_only=True)]
    sure(keys == sorted(keys) and scene.key("d") in keys, "all keys, in order")


@scenario("KV.Range", fast=True)
async def sorted_ranges(scene):
    for name, value in [("a", b"2"), ("b", b"3"), ("c", b"1"), ("a", b"2")]:
        await scene.put(name, value)
    rows = [
        ("key", "descend", [b"1", b"3", b"2"]),
        ("create", "ascend", [b"2", b"3", b"1"]),
        ("mod", "ascend", [b"3", b"1", b"2"]),
        ("value", "ascend", [b"1", b"2", b"3"]),
        ("value", "descend", [b"3", b"2", b"1"]),
    ]
    for target, order, expected in rows:
        equal(await scene.values(sort_target=target, sort_order=order), expected, f"by {target}, {order}")
    equal((await scene.values(sort_target="version", sort_order="descend"))[0], b"2", "by version")


@scenario("KV.DeleteRange", fast=True)
async def deletes(scene):
    for name in "abcd":
        await scene.put(name, name.encode())
    equal((await scene.client.delete(scene.key("a"), prev_kv=True)).prev_kv.value, b"a", "previous")
    equal(await scene.client.delete(scene.key("a")), None, "deleted again")
    gone = await scene.client.delete_range(scene.key("b"), scene.key("d"), prev_kv=True)
    equal((gone.deleted, [kv.value for kv in gone]), (2, [b"b", b"c"]), "by range")
    equal((await scene.client.delete_prefix(scene.prefix)).deleted, 1, "by prefix")
    equal(await scene.values(), [], "what is left")


# Transactions


@scenario("KV.Txn", fast=True)
async def every_comparison(scene):
    client, t, key = scene.client, scene.client.transactions, scene.key("a")
    made = await scene.put("a", b"m")
    changed = await scene.put("a", b"m")
    rows = [
        (t.value, b"m", b"l", b"n"),
        (t.version, 2, 1, 3),
        (t.create, made, made - 1, made + 1),
        (t.mod, changed, changed - 1, changed + 1),
    ]
    for of, same, less, more in rows:
        compares = [(of(key) == same, True), (of(key) == less, False), (of(key) != less, True), (of(key) != same, False)]
        compares += [(of(key) > less, True), (of(key) > same, False), (of(key) < more, True), (of(key) < same, False)]
        for compare, expected in compares:
            done, _ = await client.transaction(compare=[compare], success=[], failure=[])
            equal(done, expected, repr(compare))
    both = [t.value(key) == b"m", t.version(key) == 9]
    equal((await client.transaction(compare=both, success=[], failure=[]))[0], False, "one of two holds")


@scenario("KV.Txn", fast=True)
async def transaction_answers(scene):
    client, t = scene.client, scene.client.transactions
    await scene.put("a", b"1")
    inner = t.txn(compare=[t.version(scene.key("n")) == 0], success=[t.put(scene.key("n"), b"deep")], failure=[])
    done, answers = await client.transaction(
        compare=[t.value(scene.key("a")) == b"1"],
        success=[t.put(scene.key("b"), b"2"), t.get(scene.key("a")), t.delete(scene.key("a")), inner, t.get(scene.key("a"))],
        failure=[t.put(scene.key("c"), b"3")],
    )
    equal(done, True, "the comparison")
    equal([value for value, _ in answers[1]], [b"1"], "got before the delete")
    equal(answers[2].response_delete_range.deleted, 1, "deleted")
    equal(answers[3].response_txn.succeeded, True, "the inner comparison")
    equal(answers[4], [], "got after the delete")
    equal(await scene.values(), [b"2", b"deep"], "what is there")


@scenario("KV.Txn", fast=True)
async def transaction_of_128_operations(scene):
    client, t = scene.client, scene.client.transactions
    puts = [t.put(scene.key(f"{at:03}"), b"x") for at in range(128)]
    done, answers = await client.transaction(compare=[], success=puts, failure=[])
    equal((done, len(answers)), (True, 128), "succeeded, with answers")
    found = await client.get_prefix(scene.prefix)
    equal((found.count, len({kv.mod_revision for kv in found})), (128, 1), "keys and revisions")
    puts.append(t.put(scene.key("128"), b"x"))
    text = "etcdserver: too many operations in txn request"
    await raises(aetcd.InvalidArgumentError, client.transaction(compare=[], success=puts, failure=[]), text)


@scenario("KV.Txn", fast=True)
async def refused_transactions(scene):
    client, t = scene.client, scene.client.transactions
    twice = [t.put(scene.key("a"), b"1"), t.put(scene.key("a"), b"2")]
    text = "etcdserver: duplicate key given in txn request"
    await raises(aetcd.InvalidArgumentError, client.transaction(compare=[], success=twice, failure=[]), text)
    text = "etcdserver: key is not provided"
    await raises(aetcd.InvalidArgumentError, client.put(b"", b"1"), text)
    equal(await scene.values(), [], "nothing is written")


@scenario("KV.Txn", fast=True)
async def contended_counter(scene):
    workers, each, key = 8, 20, scene.key("n")
    await scene.put("n", b"0")

    async def work(client):
        for _ in range(each):
            while True:
                value = (await client.get(key)).value
                if await client.replace(key, value, str(int(value) + 1).encode()):
                    break

    await asyncio.gather(*[work(scene.another(30)) for _ in range(workers)])
    found = await scene.client.get(key)
    equal((found.value, found.version), (b"160", workers * each + 1), "the counter and its version")


# Size


@scenario("KV.Put", fast=True)
async def large_value(scene):
    value = bytes(range(256)) * 4096
    await scene.put("big", value)
    sure((await scene.client.get(scene.key("big"))).value == value, "a mebibyte comes back as it was")
    text = "etcdserver: request is too large"
    await raises(aetcd.InvalidArgumentError, scene.put("huge", value + value[: 1 << 19]), text)


@scenario("KV.Range")
async def list_of_10000_keys(scene):
    client, t = scene.client, scene.client.transactions
    for start in range(0, 10_000, 125):
        puts = [t.put(scene.key(f"{at:05}"), str(at).encode()) for at in range(start, start + 125)]
        await client.transaction(compare=[], success=puts, failure=[])
    values = await scene.values()
    sure(values == [str(at).encode() for at in range(10_000)], f"{len(values)} keys, each with its value, in order")
    equal((await client.delete_prefix(scene.prefix)).deleted, 10_000, "deleted")


@scenario("KV.Put", fast=True)
async def a_thousand_puts_at_once(scene):
    revisions = await asyncio.gather(*[scene.put(f"{at:04}", b"x") for at in range(1000)])
    equal(len(set(revisions)), 1000, "each has a revision of its own")
    equal(len(await scene.values()), 1000, "keys")


# Leases


@scenario("Lease.LeaseGrant", fast=True)
async def lease_and_its_keys(scene):
    lease = await scene.client.lease(60)
    await scene.put("a", b"1", lease=lease)
    await scene.put("b", b"2", lease=lease.id)
    equal(sorted(await lease.keys()), [scene.key("a"), scene.key("b")], "the keys")
    equal(await lease.granted_ttl(), 60, "granted")
    left = await lease.remaining_ttl()
    sure(50 < left <= 60, f"remaining {left}")
    equal((await scene.client.get_lease_info(lease.id, keys=False)).keys, [], "without the keys")
    await lease.revoke()
    equal((await scene.values(), await lease.remaining_ttl()), ([], -1), "after the revoke")


@scenario("Lease.LeaseGrant", fast=True)
async def duplicate_and_unknown_leases(scene):
    chosen = 0x7A12
    try:
        await scene.client.revoke_lease(chosen)
    except aetcd.ClientError:
        pass
    equal((await scene.client.lease(60, lease_id=chosen)).id, chosen, "the id")
    await raises(aetcd.DuplicateLeaseError, scene.client.lease(60, lease_id=chosen))
    await scene.client.revoke_lease(chosen)
    text = "etcdserver: requested lease not found"
    await raises(aetcd.ClientError, scene.client.revoke_lease(chosen), text)
    await raises(aetcd.ClientError, scene.put("a", b"1", lease=chosen), text)
    equal((await scene.client.refresh_lease(chosen)).TTL, 0, "kept alive")


@scenario("Lease.LeaseKeepAlive", fast=True)
async def kept_alive_and_expired(scene):
    lease = await scene.client.lease(2)
    await scene.put("a", b"1", lease=lease)
    for _ in range(6):
        await asyncio.sleep(0.5)
        equal((await lease.refresh()).TTL, 2, "kept alive")
    equal(await scene.values(), [b"1"], "after longer than its time")
    begun = time.monotonic()

    async def gone():
        return await scene.values() == []

    await until(15, gone, "the key goes with its lease")
    sure(time.monotonic() - begun > 1.3, "not before its time")


@scenario("Lease.LeaseKeepAlive", fast=True)
async def keep_alive_stream(scene):
    lease = await scene.client.lease(3)

    async def requests():
        for _ in range(5):
            yield rpc.LeaseKeepAliveRequest(ID=lease.id)
            await asyncio.sleep(0.3)
        yield rpc.LeaseKeepAliveRequest(ID=0x404)

    answers = [(a.ID, a.TTL) async for a in scene.client.leasestub.LeaseKeepAlive(requests(), timeout=CALL_LIMIT)]
    equal(answers, [(lease.id, 3)] * 5 + [(0x404, 0)], "one answer a request, on one stream")


# Watches


@scenario("Watch.Watch", fast=True)
async def watch_a_prefix(scene):
    watch = await scene.client.watch_prefix(scene.prefix)
    await scene.put("a", b"1")
    await scene.put("b", b"2")
    await scene.client.delete(scene.key("a"))
    expected = [("PUT", "a", b"1"), ("PUT", "b", b"2"), ("DELETE", "a", b"")]
    equal(await scene.events(watch, 3), expected, "the events")
    await watch.cancel()


@scenario("Watch.Watch", fast=True)
async def watch_from_a_revision_with_previous_values(scene):
    first = await scene.put("a", b"1")
    await scene.put("a", b"2")
    await scene.client.delete(scene.key("a"))
    watch = await scene.client.watch(scene.key("a"), start_revision=first, prev_kv=True)
    taken = [await next_event(watch) for _ in range(3)]
    equal([event.kv.value for event in taken], [b"1", b"2", b""], "values")
    equal([event.prev_kv.value for event in taken], [b"", b"1", b"2"], "previous values")
    equal([event.kv.mod_revision for event in taken], [first, first + 1, first + 2], "revisions")


@scenario("Watch.Watch", fast=True)
async def watch_filters(scene):
    puts = await scene.client.watch_prefix(scene.prefix, kind=aetcd.EventKind.PUT)
    deletes = await scene.client.watch_prefix(scene.prefix, kind=aetcd.EventKind.DELETE)
    for name in "ab":
        await scene.put(name, b"1")
        await scene.client.delete(scene.key(name))
    equal(await scene.events(puts, 2), [("PUT", "a", b"1"), ("PUT", "b", b"1")], "puts")
    equal(await scene.events(deletes, 2), [("DELETE", "a", b""), ("DELETE", "b", b"")], "deletes")


@scenario("Watch.Watch", fast=True)
async def watch_once(scene):
    asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(scene.put("a", b"1")))
    event = await scene.client.watch_once(scene.key("a"), timeout=EVENT_LIMIT)
    equal(event.kv.value, b"1", "one event")
    await raises(aetcd.WatchTimeoutError, scene.client.watch_once(scene.key("b"), timeout=0.3))


@scenario("Watch.Watch", fast=True)
async def many_watches_on_one_stream(scene):
    watches = [await scene.client.watch(scene.key(str(at))) for at in range(40)]
    for at in range(40):
        await scene.put(str(at), str(at).encode())
    for at, watch in enumerate(watches):
        equal(await scene.events(watch, 1), [("PUT", str(at), str(at).encode())], f"watch {at}")
    for watch in watches[::2]:
        await watch.cancel()
    await scene.put("1", b"again")
    equal(await scene.events(watches[1], 1), [("PUT", "1", b"again")], "the others go on")


@scenario("Watch.Watch", fast=True)
async def watch_compacted_revision(scene):
    first = await scene.put("a", b"1")
    last = [await scene.put("a", b"x") for _ in range(3)][-1]
    await scene.client.compact(last)
    watch = await scene.client.watch(scene.key("a"), start_revision=first)
    error = await raises(aetcd.RevisionCompactedError, next_event(watch))
    equal(error.compacted_revision, last, "the compacted revision")


@scenario("Watch.Watch", fast=True)
async def watch_ids_fragments_and_progress(scene):
    """By the client's stub: its own calls do not pass these on."""
    requests = asyncio.Queue()

    async def stream():
        while (request := await requests.get()) is not None:
            yield request

    responses = rpc.WatchStub(scene.client.channel).Watch(stream(), timeout=CALL_LIMIT).__aiter__()
    for expected in ["", "etcdserver: mvcc: watcher already exist on the stream"]:
        create = rpc.WatchCreateRequest(key=scene.key("a"), watch_id=7, fragment=True)
        await requests.put(rpc.WatchRequest(create_request=create))
        answer = await responses.__anext__()
        sure(answer.created and answer.watch_id == (-1 if expected else 7), f"created: {answer}")
        sure(expected == "" or answer.canceled, "the second is refused")
    revision = await scene.put("a", b"1")
    answer = await responses.__anext__()
    equal((answer.watch_id, answer.header.revision, len(answer.events)), (7, revision, 1), "the event")
    await requests.put(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
    answer = await responses.__anext__()
    equal((answer.watch_id, answer.header.revision, len(answer.events)), (-1, revision, 0), "progress")
    await requests.put(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=7)))
    answer = await responses.__anext__()
    equal((answer.watch_id, answer.canceled), (7, True), "cancelled")
    await requests.put(None)


@scenario("Watch.Watch", fast=True)
async def watch_resumes_after_a_restart(scene):
    """The client hands the error on; its user watches anew from the next revision."""
    watch = await scene.client.watch_prefix(scene.prefix)
    last = await scene.put("a", b"1")
    equal(await scene.events(watch, 1), [("PUT", "a", b"1")], "before")
    await scene.put("missed", b"2")
    await steer("restart")
    equal(await scene.events(watch, 1), [("PUT", "missed", b"2")], "still there")
    try:
        await next_event(watch)
        raise AssertionError("an event while nothing is written")
    except (aetcd.ClientError, rpc.AioRpcError):
        pass
    resumed = await until(20, lambda: scene.client.watch_prefix(scene.prefix, start_revision=last + 1), "a new watch")
    await scene.put("b", b"3")
    expected = [("PUT", "missed", b"2"), ("PUT", "b", b"3")]
    equal(await scene.events(resumed, 2), expected, "nothing lost, nothing twice")


@scenario("KV.Range")
async def calls_while_it_is_away(scene):
    await scene.put("a", b"1")
    await steer("kill")
    kinds = (aetcd.ConnectionFailedError, aetcd.ConnectionTimeoutError)
    await raises(kinds, scene.another(2).get(scene.key("a")))
    await steer("start")
    found = await until(20, lambda: scene.client.get(scene.key("a")), "the same client goes on")
    equal(found.value, b"1", "the value")


@scenario("Lease.LeaseKeepAlive")
async def lease_lives_over_a_restart(scene):
    lease = await scene.client.lease(8)
    await scene.put("a", b"1", lease=lease)
    await steer("restart")
    answer = await until(20, lease.refresh, "kept alive again")
    equal((answer.TTL, await scene.values()), (8, [b"1"]), "time to live, and the key")

    async def gone():
        return await scene.values() == []

    await until(30, gone, "the key goes with its lease")


@scenario("KV.Range", fast=True)
async def reconnect_storm(scene):
    """Many clients come at once, watch, call, and go."""
    await scene.put("a", b"1")

    async def come_and_go():
        for _ in range(5):
            client = aetcd.Client(host=scene.host, port=scene.port, timeout=20)
            await client.watch(scene.key("a"))
            equal((await client.get(scene.key("a"))).value, b"1", "the value")
            await client.close()

    await asyncio.gather(*[come_and_go() for _ in range(20)])
    equal(await scene.values(), [b"1"], "it still answers")


# Locks


@scenario("KV.Txn", fast=True)
async def locks(scene):
    name = scene.key("lock")
    first, second = scene.client.lock(name, ttl=20), scene.another().lock(name, ttl=20)
    sure(await first.acquire(timeout=5), "the first gets it")
    sure(await first.is_acquired() and not await second.is_acquired(), "who has it")
    sure(not await second.acquire(timeout=0.5), "the second does not")
    equal((await first.refresh()).TTL, 20, "refreshed")
    waiting = asyncio.ensure_future(second.acquire(timeout=15))
    await asyncio.sleep(0.3)
    sure(await first.release(), "released")
    sure(await waiting, "the second gets it after the first")
    sure(not await first.release() and await second.release(), "only who has it releases it")


@scenario("KV.Txn", fast=True)
async def lock_excludes(scene):
    inside, most = 0, 0

    async def work(client):
        nonlocal inside, most
        for _ in range(3):
            async with client.lock(scene.key("lock"), ttl=30):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1

    await asyncio.gather(*[work(scene.another(40)) for _ in range(4)])
    equal(most, 1, "how many were inside at once")


@scenario("Lease.LeaseGrant")
async def lock_of_the_dead_goes_with_its_lease(scene):
    sure(await scene.client.lock(scene.key("lock"), ttl=2).acquire(timeout=5), "acquired, never released")
    sure(await scene.another(30).lock(scene.key("lock"), ttl=20).acquire(timeout=25), "another gets it")


# Maintenance and the cluster


@scenario("KV.Compact", fast=True)
async def compaction(scene):
    first = await scene.put("a", b"1")
    last = await scene.put("a", b"2")
    await scene.client.compact(last, physical=True)
    text = "etcdserver: mvcc: required revision has been compacted"
    await raises(aetcd.ClientError, scene.client.compact(first), text)
    text = "etcdserver: mvcc: required revision is a future revision"
    await raises(aetcd.ClientError, scene.client.compact(last + 1000), text)
    equal(await scene.values(), [b"2"], "the newest")


@scenario("Maintenance.Status", fast=True)
async def status(scene):
    status = await scene.client.status()
    sure(re.fullmatch(r"3\.[0-9]+\.[0-9]+", status.version), f"the version {status.version}")
    sure(status.db_size > 0 and status.raft_term > 0 and status.raft_index > 0, "numbers")
    equal(status.leader.name, "judged", "the leader")


@scenario("Cluster.MemberList", fast=True)
async def members(scene):
    members = [member async for member in scene.client.members()]
    equal([member.name for member in members], ["judged"], "names")
    equal(list(members[0].client_urls), [f"http://{scene.host}:{scene.port}"], "client addresses")


@scenario("Maintenance.Defragment", fast=True)
async def defragment_and_hash(scene):
    await scene.put("a", b"1")
    await scene.client.defragment()
    first = await scene.client.hash()
    await scene.put("a", b"2")

    async def another():
        return await scene.client.hash() != first

    await until(10, another, "another hash after a write")


@scenario("Maintenance.Alarm", fast=True)
async def alarms(scene):
    member = [member async for member in scene.client.members()][0]
    try:
        made = await scene.client.create_alarm(member.id)
        equal([(alarm.alarm_type, alarm.member_id) for alarm in made], [(1, member.id)], "the alarm")
        listed = [alarm.alarm_type async for alarm in scene.client.list_alarms()]
        equal(listed, [1], "in the list")
        await raises(aetcd.ClientError, scene.put("a", b"1"), "etcdserver: mvcc: database space exceeded")
    finally:
        await scene.client.disarm_alarm(member.id)
    await scene.put("a", b"1")


if __name__ == "__main__":
    main(play)
