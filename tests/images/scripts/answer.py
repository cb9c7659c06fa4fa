"""Answers GET /check on port 8080 for a program: 200 with what it says of itself, or 500 with what is broken.

As a script, for programs that cannot serve themselves, it asks them by two fifos: `answer.py QUESTIONS ANSWERS`.
"""

import http.server
import os
import select
import sys
import threading
import traceback


def expect(what, got, want):
    """Fails unless what was got is what was wanted."""
    if got != want:
        raise AssertionError(f"{what} is {got!r}; it was {want!r}")


def until(seconds, what, check):
    """Calls check until it returns something true, which is returned."""
    for _ in range(int(seconds * 50)):
        found = check()
        if found:
            return found
        threading.Event().wait(0.02)
    raise AssertionError(f"{what}: not after {seconds} s")


def serve(check):
    """Answers for ever. One check is made at a time. After one that failed none is made: the next would fail for what the first left behind."""
    turn, failed = threading.Lock(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with turn:
                try:
                    text = "" if failed else f"ok\n{check()}\n"
                except Exception:
                    failed.append("".join(traceback.format_exc(limit=-4)))
            self.send_response(500 if failed else 200)
            self.end_headers()
            self.wfile.write("".join(failed or [text]).encode())

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()


def by_fifos(questions, answers):
    """Returns a check that writes a line to one fifo and reads the answer, a line too, from the other."""
    to = os.open(questions, os.O_RDWR)
    back = os.open(answers, os.O_RDWR)

    def check():
        os.write(to, b"check\n")
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([back], [], [], 30)[0]:
                raise AssertionError(f"no answer within 30 s, only {line!r}")
            line += os.read(back, 4096)
        text = line.decode().strip()
        if not text.startswith("ok"):
            raise AssertionError(text)
        return text

    return check


if __name__ == "__main__":
    serve(by_fifos(*sys.argv[1:]))
