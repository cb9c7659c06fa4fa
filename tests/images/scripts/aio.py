"""An asyncio program: servers with open connections, timers, tasks that wait, a child process, threads of an executor."""

import asyncio
import os
import signal
import time

from answer import expect


async def echo_sums(reader, writer):
    """Answers each number with the sum of all that came by the same connection."""
    total = 0
    while line := await reader.readline():
        total += int(line)
        writer.write(b"%d\n" % total)
        await writer.drain()


async def numbers():
    n = 0
    while True:
        yield n
        n += 1


class State:
    async def start(self):
        loop = asyncio.get_running_loop()
        self.server = await asyncio.start_server(echo_sums, "127.0.0.1", 7000)
        self.six = await asyncio.start_server(echo_sums, "::1", 7001)
        self.local = await asyncio.start_unix_server(echo_sums, "/work/socket")
        self.clients = [await asyncio.open_connection("127.0.0.1", 7000) for _ in range(50)]
        self.clients += [await asyncio.open_connection("::1", 7001) for _ in range(5)]
        self.clients += [await asyncio.open_unix_connection("/work/socket") for _ in range(10)]
        self.child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        self.ticks = self.seen = self.signals = self.checks = 0
        self.long = asyncio.create_task(asyncio.sleep(1e6))
        self.queue, self.results = asyncio.Queue(), []
        self.worker = asyncio.create_task(self.work())
        self.generator = numbers()
        self.began = loop.time()
        self.wall = time.time()
        loop.add_signal_handler(signal.SIGUSR1, self.signalled)
        self.tick()

    def signalled(self):
        self.signals += 1

    def tick(self):
        self.ticks += 1
        asyncio.get_running_loop().call_later(0.05, self.tick)

    async def work(self):
        while True:
            item = await self.queue.get()
            self.results.append(await asyncio.to_thread(lambda: item * item))

    async def check(self):
        n = self.checks
        for reader, writer in self.clients:
            writer.write(b"%d\n" % n)
        sums = [int(await asyncio.wait_for(reader.readline(), 30)) for reader, _ in self.clients]
        expect("sums of the connections", set(sums), {n * (n + 1) // 2})
        expect("pid of the child, which lives", self.child.returncode, None)
        self.child.stdin.write(b"line %d\n" % n)
        expect("line of the child", await asyncio.wait_for(self.child.stdout.readline(), 30), b"line %d\n" % n)
        os.kill(os.getpid(), signal.SIGUSR1)
        self.queue.put_nowait(n)
        before = self.ticks
        await asyncio.sleep(0.3)
        expect("signals", self.signals, n + 1)
        expect("results", self.results, [i * i for i in range(n + 1)])
        expect("generator", await anext(self.generator), n)
        expect("long sleep is done", self.long.done(), False)
        if self.ticks - before < 3 or before < self.seen:
            raise AssertionError(f"the timer went from {self.seen} to {before} to {self.ticks}")
        self.seen, self.checks = self.ticks, n + 1
        passed, wall = asyncio.get_running_loop().time() - self.began, time.time() - self.wall
        return f"{self.checks} checks, {self.ticks} ticks, monotonic {passed:.1f} s, wall {wall:.1f} s"


async def main():
    state = State()
    await state.start()
    turn = asyncio.Lock()

    async def answer(reader, writer):
        while (await reader.readline()).strip():
            pass
        async with turn:
            try:
                status, text = "200 OK", "ok\n" + await state.check()
            except Exception as error:
                status, text = "500 Broken", repr(error)
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "", 8080) as server:
        await server.serve_forever()


asyncio.run(main())
