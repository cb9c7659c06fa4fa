"""An nginx that serves files and stands before another server, and a memcached; both with clients that stay connected."""

import http.client
import http.server
import os
import socket
import subprocess
import sys
import threading

from answer import expect, serve, until

CONFIGURATION = """
daemon off; worker_processes 2; pid /work/nginx.pid; error_log stderr; user root;
events { worker_connections 256; }
http {
  access_log off; keepalive_timeout 3600; keepalive_requests 100000;
  client_body_temp_path /work/body; proxy_temp_path /work/proxy; fastcgi_temp_path /work/f; uwsgi_temp_path /work/u; scgi_temp_path /work/s;
  proxy_cache_path /work/cache keys_zone=cache:1m;
  upstream behind { server 127.0.0.1:9001; keepalive 8; }
  server {
    listen 127.0.0.1:9000; listen [::1]:9000;
    location /files/ { root /work; }
    location /cached { proxy_pass http://behind; proxy_cache cache; proxy_cache_valid 1h; }
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
  }
}
"""


class Behind(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self):
        Behind.asked += 1
        text = f"{self.path} {Behind.asked}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def connected(port):
    try:
        return socket.create_connection(("127.0.0.1", port))
    except OSError:
        return None


class Nginx:
    def __init__(self):
        os.makedirs("/work/files", exist_ok=True)
        self.big = os.urandom(4 << 20)
        for name, data in (("big", self.big), ("nginx.conf", CONFIGURATION.encode())):
            with open(f"/work/files/{name}", "wb") as file:
                file.write(data)
        threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 9001), Behind).serve_forever, daemon=True).start()
        self.process = subprocess.Popen(["nginx", "-c", "/work/files/nginx.conf"])
        until(60, "nginx answers", lambda: connected(9000))
        self.clients = [http.client.HTTPConnection("127.0.0.1", 9000, timeout=30) for _ in range(20)]
        self.clients += [http.client.HTTPConnection("::1", 9000, timeout=30) for _ in range(5)]
        for client in self.clients:
            client.connect()
            client.auto_open = False  # a second connection would be an error
        self.cached = self.get(self.clients[0], "/cached")
        self.slow = None
        self.begin()

    @staticmethod
    def get(client, path):
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()

    def begin(self):
        """Reads a part of a large answer; nginx is in the middle of it, and the socket's buffers are full."""
        if self.slow is None:
            self.slow = http.client.HTTPConnection("127.0.0.1", 9000, timeout=30)
            self.slow.connect()
            self.slow.auto_open = False
        self.slow.request("GET", "/files/big")
        self.response = self.slow.getresponse()
        self.part = self.response.read(100000)

    def check(self):
        expect("exit code of nginx", self.process.poll(), None)
        expect("length of the answer under way, and whether it is right", (len(self.part + (rest := self.response.read())), self.part + rest == self.big),
               (len(self.big), True))
        for client in self.clients:
            before = Behind.asked
            expect("answer from behind", self.get(client, "/x"), (200, f"/x {before + 1}".encode()))
        expect("cached answer", self.get(self.clients[3], "/cached"), self.cached)
        self.begin()


class Memcached:
    def __init__(self):
        self.process = subprocess.Popen(["memcached", "-u", "root", "-p", "11211", "-l", "127.0.0.1", "-m", "64"])
        until(60, "memcached answers", lambda: connected(11211))
        self.clients = [connected(11211).makefile("rwb") for _ in range(10)]
        for i in range(5000):
            value = b"value %d" % (i * i)
            self.ask(self.clients[i % 10], b"set key%d 0 0 %d\r\n%s" % (i, len(value), value))
        self.ask(self.clients[0], b"set counter 0 0 1\r\n0")
        self.checks = 0

    @staticmethod
    def ask(client, words):
        client.write(words + b"\r\n")
        client.flush()
        return client.readline().strip()

    def check(self):
        expect("exit code of memcached", self.process.poll(), None)
        expect("counter", self.ask(self.clients[1], b"incr counter 1"), b"%d" % (self.checks + 1))
        for i in range(5000):
            client, value = self.clients[i % 10], b"value %d" % (i * i)
            expect("head of a value", self.ask(client, b"get key%d" % i), b"VALUE key%d 0 %d" % (i, len(value)))
            expect("value", client.readline().strip(), value)
            expect("its end", client.readline().strip(), b"END")
        self.checks += 1


if __name__ == "__main__":
    state = {"nginx": Nginx, "memcached": Memcached}[sys.argv[1]]()
    serve(state.check)
