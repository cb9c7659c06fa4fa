"""NumPy arrays of 256 MiB, half of them in shared memory, and the processes of a Pool that work on them."""

import multiprocessing
import os
import tempfile
from multiprocessing import shared_memory

import numpy

from answer import expect, serve

SIZE = 16 << 20  # numbers of 8 bytes in each half


def digest(array):
    """Returns a number that depends on every element and its place."""
    view = array.view(numpy.uint64)
    weights = numpy.arange(1, 1025, dtype=numpy.uint64)
    return int((view.reshape(-1, 1024) * weights).sum(dtype=numpy.uint64))


def attach(name, lock, seen):
    """Prepares a worker of the pool."""
    global block, shared, turns, counter
    turns, counter = lock, seen
    block = shared_memory.SharedMemory(name)
    shared = numpy.ndarray((SIZE,), dtype=numpy.float64, buffer=block.buf)


def work(part):
    """Has a worker look at a quarter of the shared array and count itself."""
    with turns:
        counter.value += 1
    return os.getpid(), float(shared[part * SIZE // 4:(part + 1) * SIZE // 4].sum())


def echo(pipe, queue):
    """Answers from another process, by a pipe and a queue."""
    total = 0
    while True:
        total += pipe.recv()
        queue.put(total)


class State:
    def __init__(self):
        random = numpy.random.default_rng(4)
        self.private = random.random(SIZE)
        self.block = shared_memory.SharedMemory(create=True, size=SIZE * 8)
        self.shared = numpy.ndarray((SIZE,), dtype=numpy.float64, buffer=self.block.buf)
        self.shared[:] = self.private[::-1]
        self.turns, self.counter = multiprocessing.Lock(), multiprocessing.Value("q", 0)
        self.pool = multiprocessing.Pool(3, attach, (self.block.name, self.turns, self.counter))
        self.file = tempfile.TemporaryFile(dir="/work")
        self.mapped = numpy.memmap(self.file, dtype=numpy.int64, mode="w+", shape=(1 << 20,))
        self.mapped[:] = numpy.arange(1 << 20)
        self.manager = multiprocessing.Manager()
        self.managed = self.manager.dict(checks=0)
        self.pipe, far = multiprocessing.Pipe()
        self.queue = multiprocessing.Queue()
        self.echo = multiprocessing.Process(target=echo, args=(far, self.queue), daemon=True)
        self.echo.start()
        self.matrix = random.random((600, 600))
        self.product = (self.matrix @ self.matrix).tobytes()
        self.random, self.drawn = numpy.random.default_rng(5), 0
        self.digests = digest(self.private), digest(self.shared)
        self.sums = [float(self.shared[i * SIZE // 4:(i + 1) * SIZE // 4].sum()) for i in range(4)]
        self.workers = {p.pid for p in self.pool._pool}
        self.checks, self.total = 0, 0

    def check(self):
        expect("digest of the arrays", (digest(self.private), digest(self.shared)), self.digests)
        expect("product of the matrix", (self.matrix @ self.matrix).tobytes(), self.product)
        draw = self.random.random()
        expect("random number", draw, numpy.random.default_rng(5).random(self.drawn + 1)[-1])
        self.drawn += 1
        if self.checks:
            self.late.get(10)  # a task that was under way
        expect("count in shared memory", self.counter.value, 8 * self.checks)
        answers = self.pool.map_async(work, [0, 1, 2, 3], chunksize=1).get(10)
        expect("sums", [s for _, s in answers], self.sums)
        if not {pid for pid, _ in answers} <= self.workers:
            raise AssertionError(f"the pool has new workers: {answers}, {self.workers}")
        expect("workers", {p.pid for p in self.pool._pool}, self.workers)
        self.mapped[self.checks] += 1000
        expect("mapped file", int(self.mapped.sum()), (1 << 19) * ((1 << 20) - 1) + 1000 * (self.checks + 1))
        self.managed["checks"] += 1
        expect("dictionary of the manager", self.managed["checks"], self.checks + 1)
        self.total += self.checks
        self.pipe.send(self.checks)
        expect("echo", self.queue.get(timeout=30), self.total)
        self.checks += 1
        self.late = self.pool.map_async(work, [0, 1, 2, 3], chunksize=1)
        return f"{self.checks} checks"


if __name__ == "__main__":
    serve(State().check)
