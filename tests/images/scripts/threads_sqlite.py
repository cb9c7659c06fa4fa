"""Threads with queues, a SQLite database in the middle of transactions, generators, temporary files, a compressor in the middle of its stream.

Beside them another process, with which a lock, a counter and a block of /dev/shm are shared.
"""

import hashlib
import itertools
import mmap
import multiprocessing
import os
import queue
import random
import sqlite3
import tempfile
import threading
import zlib
from multiprocessing import shared_memory

from answer import expect, serve

PATH = "/data/database"


def connect():
    connection = sqlite3.connect(PATH, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=300")
    return connection


def other(pipe, lock, counter, name):
    """Is another process in the middle of a transaction that reads."""
    connection, block = connect(), shared_memory.SharedMemory(name)
    connection.execute("BEGIN")
    seen = connection.execute("SELECT count(*) FROM rows").fetchone()[0]
    while True:
        pipe.recv()
        with lock:
            counter.value += 1
            block.buf[counter.value] = 7
        pipe.send((seen, connection.execute("SELECT count(*) FROM rows").fetchone()[0]))
        connection.execute("COMMIT")
        connection.execute("BEGIN")
        seen = connection.execute("SELECT count(*) FROM rows").fetchone()[0]
        pipe.send(seen)


def primes():
    found = []
    for n in itertools.count(2):
        if all(n % p for p in found):
            found.append(n)
            yield n


class State:
    def __init__(self):
        self.writer, self.reader, self.third = connect(), connect(), connect()
        self.writer.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, text TEXT)")
        self.pipe, far = multiprocessing.Pipe()
        self.lock, self.counter = multiprocessing.Lock(), multiprocessing.Value("i", 0)
        self.block = shared_memory.SharedMemory(create=True, size=1 << 20)
        self.child = multiprocessing.Process(target=other, args=(far, self.lock, self.counter, self.block.name), daemon=True)
        self.child.start()
        self.requests, self.answers = queue.Queue(), queue.PriorityQueue()
        self.threads = [threading.Thread(target=self.work, name=f"worker-{i}", daemon=True) for i in range(20)]
        for thread in self.threads:
            thread.start()
        self.barrier, self.passed = threading.Barrier(4), 0
        self.local = threading.local()
        for _ in range(3):
            threading.Thread(target=self.wait, daemon=True).start()
        self.generator, self.twin = primes(), primes()
        self.random, self.same = random.Random(4), random.Random(4)
        self.unlinked = tempfile.TemporaryFile(dir="/work")
        self.unlinked.write(os.urandom(1 << 20))
        self.unlinked.flush()
        self.unlinked.seek(1000)
        self.digest = hashlib.sha256(os.pread(self.unlinked.fileno(), 1 << 20, 0)).hexdigest()
        self.spooled = tempfile.SpooledTemporaryFile(1 << 20, dir="/tmp")
        self.spooled.write(b"x" * (2 << 20))
        self.folder = tempfile.TemporaryDirectory(dir="/tmp")
        self.kept = tempfile.NamedTemporaryFile(dir=self.folder.name)
        self.mapped = mmap.mmap(-1, 1 << 20)
        self.compressor, self.packed, self.plain = zlib.compressobj(), b"", b""
        self.hash, self.checks = hashlib.sha256(), 0
        self.begin()

    def work(self):
        while True:
            n = self.requests.get()
            self.answers.put((n, n * n))

    def wait(self):
        """Stands at a barrier until a check comes."""
        count = 0
        while True:
            self.local.count = count
            self.barrier.wait()
            count += 1
            expect("a thread's own variable", self.local.count, count - 1)
            self.passed += 1

    def begin(self):
        """Leaves a transaction open that writes, and one that reads what was there before."""
        self.reader.execute("BEGIN")
        expect("rows before", self.reader.execute("SELECT count(*) FROM rows").fetchone()[0], self.checks)
        self.writer.execute("BEGIN IMMEDIATE")
        self.writer.execute("INSERT INTO rows VALUES (?, ?)", (self.checks, f"row {self.checks}"))

    def check(self):
        n = self.checks
        try:
            self.third.execute("BEGIN IMMEDIATE")
            raise AssertionError("a second connection may write too: the lock is gone")
        except sqlite3.OperationalError as error:
            expect("error of the second one that writes", str(error), "database is locked")
        expect("rows of the reader", self.reader.execute("SELECT count(*) FROM rows").fetchone()[0], n)
        self.writer.execute("COMMIT")
        expect("rows of the reader after the commit", self.reader.execute("SELECT count(*) FROM rows").fetchone()[0], n)
        self.reader.execute("COMMIT")
        expect("rows", [r[0] for r in self.third.execute("SELECT text FROM rows ORDER BY n")], [f"row {i}" for i in range(n + 1)])
        with self.lock:  # for which the other process waits
            self.pipe.send(None)
            expect("count before the other process has the lock", self.counter.value, n)
        expect("rows of the other process", self.pipe.recv(), (n, n))
        expect("rows of its next transaction", self.pipe.recv(), n + 1)
        expect("count and block of the other process", (self.counter.value, bytes(self.block.buf[1:n + 3])), (n + 1, b"\7" * (n + 1) + b"\0"))
        expect("integrity", self.third.execute("PRAGMA integrity_check").fetchone()[0], "ok")
        for i in range(100):
            self.requests.put(i)
        expect("answers of the threads", [self.answers.get(timeout=5) for _ in range(100)], [(i, i * i) for i in range(100)])
        expect("names of threads", {t.name for t in self.threads if t.is_alive()}, {f"worker-{i}" for i in range(20)})
        self.barrier.wait(5)
        self.files(n)
        expect("prime", [next(self.generator) for _ in range(20)], [next(self.twin) for _ in range(20)])
        expect("random number", self.random.random(), self.same.random())
        line = f"line {n}\n".encode() * 100
        self.plain += line
        self.packed += self.compressor.compress(line) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        expect("what was compressed", zlib.decompressobj().decompress(self.packed), self.plain)
        self.hash.update(line)
        expect("digest", self.hash.hexdigest(), hashlib.sha256(self.plain).hexdigest())
        self.checks += 1
        self.begin()
        return f"{self.checks} checks"

    def files(self, n):
        expect("offset in the unlinked file", self.unlinked.tell(), 1000)
        expect("unlinked file", hashlib.sha256(os.pread(self.unlinked.fileno(), 1 << 20, 0)).hexdigest(), self.digest)
        expect("length of the spooled file", self.spooled.tell(), 2 << 20)
        expect("named file is there", os.path.exists(self.kept.name), True)
        self.mapped[n] = 7
        expect("anonymous mapping", self.mapped[:n + 2], b"\7" * (n + 1) + b"\0")


if __name__ == "__main__":
    serve(State().check)
