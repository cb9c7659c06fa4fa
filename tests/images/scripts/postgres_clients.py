"""A PostgreSQL server with System V and POSIX shared memory, and clients in the middle of what they do."""

import os
import select
import subprocess
import threading

import psycopg2

from answer import expect, serve, until

PROGRAMS = "/usr/lib/postgresql/17/bin/"
ROWS = 100000


def start():
    """Makes a database on the volume and starts its server."""
    folder = "/data/database"
    if not os.path.exists(folder):
        subprocess.run([PROGRAMS + "initdb", "-D", folder, "--no-locale", "-E", "UTF8", "-A", "trust", "--no-sync"], check=True, stdout=subprocess.DEVNULL)
    settings = {"shared_memory_type": "sysv", "dynamic_shared_memory_type": "posix", "min_dynamic_shared_memory": "16MB", "listen_addresses": "127.0.0.1",
                "unix_socket_directories": "/data", "shared_buffers": "64MB", "debug_parallel_query": "on", "jit": "off"}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return subprocess.Popen([PROGRAMS + "postgres", "-D", folder, *words])


def connect(host):
    connection = psycopg2.connect(host=host, dbname="postgres", user="postgres")
    connection.autocommit = True
    return connection


def ask(connection, query, *values):
    """Returns the first row of an answer, if it has one."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone() if cursor.description else None


def patient(host):
    def attempt():
        try:
            return connect(host)
        except psycopg2.OperationalError:
            return None

    return until(60, "the server answers", attempt)


class State:
    def __init__(self):
        self.server = start()
        self.plain, self.local = patient("127.0.0.1"), connect("/data")
        ask(self.plain, "CREATE TABLE numbers AS SELECT n, md5(n::text) AS digest FROM generate_series(1, %s) n", ROWS)
        ask(self.plain, "CREATE TABLE checks (n int PRIMARY KEY)")
        self.digest = self.look(self.plain)
        self.inside, self.listening, self.holding, self.sleeping = (connect("127.0.0.1") for _ in range(4))
        self.backends = {c: c.get_backend_pid() for c in (self.plain, self.local, self.inside, self.listening, self.holding, self.sleeping)}
        ask(self.listening, "LISTEN channel")
        ask(self.holding, "SELECT pg_advisory_lock(4)")
        ask(self.holding, "CREATE TEMPORARY TABLE own AS SELECT 42 AS answer")
        ask(self.holding, "PREPARE double(int) AS SELECT 2 * $1")
        self.naps, self.checks = 0, 0
        threading.Thread(target=self.nap, daemon=True).start()
        self.open()

    @staticmethod
    def look(connection):
        return ask(connection, "SELECT count(*), md5(string_agg(digest, '' ORDER BY n)) FROM numbers")

    def nap(self):
        """Has a query in flight all the time."""
        while True:
            ask(self.sleeping, "SELECT pg_sleep(1)")
            self.naps += 1

    def open(self):
        """Begins a transaction with a row that nobody else sees, and a cursor that is in the middle of a table."""
        ask(self.inside, "BEGIN")
        ask(self.inside, "INSERT INTO checks VALUES (%s)", self.checks)
        ask(self.inside, "DECLARE walk CURSOR FOR SELECT n FROM numbers ORDER BY n")
        ask(self.inside, "MOVE 500 FROM walk")

    def check(self):
        n = self.checks
        expect("exit code of the server", self.server.poll(), None)
        expect("backends", [c.get_backend_pid() for c in self.backends], list(self.backends.values()))
        expect("backends that answer", [ask(c, "SELECT pg_backend_pid()")[0] for c in self.backends if c is not self.sleeping],
               [pid for c, pid in self.backends.items() if c is not self.sleeping])
        expect("rows", self.look(self.plain), self.digest)
        expect("rows by the local socket", self.look(self.local), self.digest)
        expect("rows outside the transaction", ask(self.plain, "SELECT count(*) FROM checks")[0], n)
        expect("rows inside the transaction", ask(self.inside, "SELECT count(*) FROM checks")[0], n + 1)
        expect("cursor", ask(self.inside, "FETCH FROM walk")[0], 501)
        ask(self.inside, "COMMIT")
        expect("rows after the commit", ask(self.plain, "SELECT count(*), coalesce(max(n), -1) FROM checks"), (n + 1, n))
        expect("lock", ask(self.plain, "SELECT pg_try_advisory_lock(4)")[0], False)
        expect("temporary table", ask(self.holding, "SELECT answer FROM own")[0], 42)
        expect("prepared statement", ask(self.holding, "EXECUTE double(%s)", n)[0], 2 * n)
        ask(self.plain, "NOTIFY channel, %s", str(n))
        if not select.select([self.listening], [], [], 5)[0]:
            raise AssertionError("whoever listens gets no notification")
        self.listening.poll()
        expect("notification", self.listening.notifies.pop().payload, str(n))
        before = self.naps
        until(30, "a query in flight comes back", lambda: self.naps > before)
        ask(self.plain, "CHECKPOINT")
        ask(self.plain, "VACUUM checks")
        self.checks += 1
        self.open()
        return f"{self.checks} checks, {self.naps} naps"


if __name__ == "__main__":
    serve(State().check)
