"""A MariaDB server, and clients in the middle of what they do."""

import os
import subprocess
import threading

import pymysql

from answer import expect, serve, until

FOLDER, SOCKET = "/data/database", "/data/socket"
ROWS = 20000


def start():
    """Makes a database on the volume and starts its server."""
    if not os.path.exists(FOLDER):
        subprocess.run(["mariadb-install-db", f"--datadir={FOLDER}", "--auth-root-authentication-method=normal", "--skip-test-db"], check=True,
                       stdout=subprocess.DEVNULL)
    return subprocess.Popen(["mariadbd", "--no-defaults", f"--datadir={FOLDER}", f"--socket={SOCKET}", "--bind-address=127.0.0.1", "--pid-file=/data/pid",
                             "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M"])


def connect(**how):
    return pymysql.connect(user="root", autocommit=True, read_timeout=10, **how)


def ask(connection, query, values=None):
    """Returns the first row of an answer, if it has one."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone()


def patient():
    try:
        return connect(unix_socket=SOCKET)
    except pymysql.MySQLError:
        return None


class State:
    def __init__(self):
        self.server = start()
        self.local = until(60, "the server answers", patient)
        ask(self.local, "CREATE DATABASE work")
        ask(self.local, "USE work")
        ask(self.local, f"CREATE TABLE numbers ENGINE=InnoDB AS SELECT seq AS n, md5(seq) AS digest FROM seq_1_to_{ROWS}")
        ask(self.local, "CREATE TABLE checks (n INT PRIMARY KEY) ENGINE=InnoDB")
        self.digest = self.look(self.local)
        self.plain, self.inside, self.holding, self.sleeping = (connect(host="127.0.0.1", database="work") for _ in range(4))
        self.all = [self.local, self.plain, self.inside, self.holding]
        self.ids = [c.thread_id() for c in self.all]
        ask(self.holding, "SELECT get_lock('lock', 0)")
        ask(self.holding, "CREATE TEMPORARY TABLE own AS SELECT 42 AS answer")
        ask(self.holding, "PREPARE twice FROM 'SELECT 2 * ?'")
        ask(self.holding, "SET @variable = 'kept'")
        self.naps, self.checks = 0, 0
        threading.Thread(target=self.nap, daemon=True).start()
        self.open()

    @staticmethod
    def look(connection):
        return ask(connection, "SELECT count(*), bit_xor(conv(left(digest, 15), 16, 10)) FROM numbers")

    def nap(self):
        """Has a query in flight all the time."""
        while True:
            ask(self.sleeping, "SELECT sleep(1)")
            self.naps += 1

    def open(self):
        ask(self.inside, "BEGIN")
        ask(self.inside, "INSERT INTO checks VALUES (%s)", (self.checks,))

    def check(self):
        n = self.checks
        expect("exit code of the server", self.server.poll(), None)
        expect("connections", [ask(c, "SELECT connection_id()")[0] for c in self.all], self.ids)
        expect("rows", self.look(self.plain), self.digest)
        expect("rows by the local socket", self.look(self.local), self.digest)
        expect("rows outside the transaction", ask(self.plain, "SELECT count(*) FROM checks")[0], n)
        expect("rows inside the transaction", ask(self.inside, "SELECT count(*) FROM checks")[0], n + 1)
        ask(self.inside, "COMMIT")
        expect("rows after the commit", ask(self.plain, "SELECT count(*) FROM checks")[0], n + 1)
        expect("lock", ask(self.plain, "SELECT get_lock('lock', 0)")[0], 0)
        expect("temporary table", ask(self.holding, "SELECT answer FROM own")[0], 42)
        ask(self.holding, f"SET @n = {n}")
        expect("prepared statement", ask(self.holding, "EXECUTE twice USING @n")[0], 2 * n)
        expect("variable", ask(self.holding, "SELECT @variable")[0], "kept")
        before = self.naps
        until(30, "a query in flight comes back", lambda: self.naps > before)
        expect("state of the tables", ask(self.plain, "CHECK TABLE numbers, checks")[3], "OK")
        self.checks += 1
        self.open()
        return f"{self.checks} checks, {self.naps} naps"


if __name__ == "__main__":
    serve(State().check)
