"""Two Redis servers, the second a replica of the first, with both kinds of persistence, and clients that stay connected."""

import os
import socket
import subprocess
import threading
import time

from answer import expect, serve, until

KEYS = 20000


class Client:
    """A connection that speaks Redis' protocol."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        encoded = [str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server has closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode() if rest != "-1" else None
        if kind == b"*":
            return [self.read() for _ in range(int(rest))] if rest != "-1" else None
        return rest

    def __call__(self, *words):
        self.send(*words)
        return self.read()

    def info(self, section):
        return dict(line.split(":", 1) for line in self("INFO", section).split("\r\n") if ":" in line)


def server(port, *more):
    """Starts a server and returns it with a connection to it."""
    folder = f"/data/{port}"
    os.makedirs(folder, exist_ok=True)
    process = subprocess.Popen(["redis-server", "--port", str(port), "--dir", folder, "--appendonly", "yes", "--appendfsync", "everysec",
                                "--enable-debug-command", "yes", "--save", "3600 1", "--unixsocket", f"{folder}/socket", *more])

    def connect():
        try:
            client = Client(port)
            return client if client("PING") == "PONG" else None
        except (OSError, RuntimeError):
            return None

    return process, until(60, f"server on port {port}", connect)


class State:
    def __init__(self):
        self.servers, self.first = zip(server(6379))
        self.servers, self.first = list(self.servers), self.first[0]
        process, self.second = server(6380, "--replicaof", "127.0.0.1", "6379")
        self.servers.append(process)
        until(60, "replica", lambda: self.second.info("replication")["master_link_status"] == "up")
        for i in range(0, KEYS, 1000):
            self.first("MSET", *(word for j in range(i, i + 1000) for word in (f"key:{j}", f"value {j * j}")))
        self.first("RPUSH", "list", *range(1000))
        self.first("HSET", "hash", *range(1000))
        self.first("ZADD", "sorted", *range(1000))
        self.first("XADD", "stream", "1-1", "field", "value")
        self.first("CONFIG", "SET", "rdb-key-save-delay", 75)  # microseconds: a save takes about 3 s
        self.first("SET", "lasting", "x", "EX", 100000)
        self.born, self.checks, self.saves = time.time(), 0, 0
        self.named = [Client(6379) for _ in range(20)]
        for i, client in enumerate(self.named):
            client("CLIENT", "SETNAME", f"client-{i}")
        self.inside = Client(6379)  # has a transaction open from one check to the next
        self.inside("MULTI")
        self.inside("INCR", "in-transaction")
        self.subscribed = Client(6379)
        self.subscribed("SUBSCRIBE", "channel")
        self.blocked, self.popped = Client(6379), []
        threading.Thread(target=self.pop, daemon=True).start()

    def pop(self):
        while True:
            self.popped.append(self.blocked("BLPOP", "queue", 0))

    def check(self):
        n, first, second = self.checks, self.first, self.second
        for process in self.servers:
            expect("exit code of a server", process.poll(), None)
        expect("counter", first("INCR", "counter"), n + 1)
        keys = first("MGET", *(f"key:{i}" for i in range(KEYS)))
        expect("values", keys, [f"value {i * i}" for i in range(KEYS)])
        expect("lengths", (first("LLEN", "list"), first("HLEN", "hash"), first("ZCARD", "sorted"), first("XLEN", "stream")), (1000, 500, 500, 1))
        left, age = first("TTL", "lasting"), time.time() - self.born
        if not 100000 - age - 10 <= left <= 100000 - age + 10:
            raise AssertionError(f"a key of 100000 s has {left} s left after {age:.0f} s")
        if n:
            until(30, "a key of 1 s is gone", lambda: first("EXISTS", "fleeting") == 0)
        expect("names of clients", [c("CLIENT", "GETNAME") for c in self.named], [f"client-{i}" for i in range(20)])
        expect("transaction", self.inside("EXEC"), [n + 1])
        expect("subscribers", first("PUBLISH", "channel", n), 1)
        expect("message", self.subscribed.read(), ["message", "channel", str(n)])
        first("RPUSH", "queue", n)
        until(30, "whoever waits in BLPOP is served", lambda: len(self.popped) == n + 1)
        expect("popped", self.popped[-1], ["queue", str(n)])
        self.replica(first, second)
        self.save(first)
        self.inside("MULTI")
        self.inside("INCR", "in-transaction")
        first("SET", "fleeting", "x", "PX", 1000)
        self.checks += 1
        return f"{self.checks} checks, {self.saves} saves"

    def replica(self, first, second):
        """Checks that the replica follows by the connection that it has had from the beginning."""
        expect("replicas that have it all", first("WAIT", 1, 30000), 1)
        until(30, "the replica is the same", lambda: first("DEBUG", "DIGEST") == second("DEBUG", "DIGEST"))
        expect("link", second.info("replication")["master_link_status"], "up")
        stats = first.info("stats")
        expect("synchronizations", (stats["sync_full"], stats["sync_partial_ok"]), ("1", "0"))

    def save(self, first):
        """Waits for the background save of the check before, and begins one that is under way for some seconds."""
        until(60, "no save is under way", lambda: first.info("persistence")["rdb_bgsave_in_progress"] == "0")
        persistence = first.info("persistence")
        expect("saves", (persistence["rdb_last_bgsave_status"], persistence["aof_last_write_status"]), ("ok", "ok"))
        if int(persistence["rdb_saves"]) < self.saves:
            raise AssertionError(f"{persistence['rdb_saves']} saves ended well; {self.saves} were begun")
        first("BGSAVE")
        self.saves += 1


if __name__ == "__main__":
    serve(State().check)
