"""A RabbitMQ broker on Erlang's virtual machine, with messages in its queues, and clients that wait for them."""

import os
import subprocess
import threading
import time

import pika

from answer import expect, serve, until

MESSAGES = 500


def connect():
    try:
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", heartbeat=0, blocked_connection_timeout=10))
    except (pika.exceptions.AMQPError, OSError):
        return None


def start():
    environment = {**os.environ, "HOME": "/data", "RABBITMQ_MNESIA_BASE": "/data/base", "RABBITMQ_LOG_BASE": "/data/log", "RABBITMQ_NODENAME": "broker@localhost",
                   "RABBITMQ_PID_FILE": "/data/pid", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_ENABLED_PLUGINS_FILE": "/data/plugins"}
    return subprocess.Popen(["rabbitmq-server"], env=environment, stdout=subprocess.DEVNULL)


class State:
    def __init__(self):
        self.server = start()
        self.connection = until(100, "the broker answers", connect)
        self.channel = self.connection.channel()
        self.channel.queue_declare("lasting", durable=True)
        self.channel.queue_declare("answers")
        self.channel.confirm_delivery()
        for n in range(MESSAGES):
            self.channel.basic_publish("", "lasting", b"message %d" % n, pika.BasicProperties(delivery_mode=2))
        self.got, self.checks = [], 0
        threading.Thread(target=self.consume, args=(connect(),), daemon=True).start()
        self.holding = connect()
        self.held = self.holding.channel()
        self.tag = None
        self.hold()

    def consume(self, connection):
        channel = connection.channel()
        channel.basic_consume("answers", lambda _, method, __, body: self.got.append(body), auto_ack=True)
        channel.start_consuming()

    def hold(self):
        """Gets a message without acknowledging it: it goes back to the queue if the connection is lost."""
        method, _, self.body = self.held.basic_get("lasting")
        self.tag = method.delivery_tag

    def check(self):
        n = self.checks
        expect("exit code of the broker", self.server.poll(), None)
        expect("message that is held", (self.tag, self.body), (n + 1, b"message %d" % n))
        self.held.basic_ack(self.tag)
        self.channel.basic_publish("", "answers", b"answer %d" % n)
        until(30, "whoever waits gets a message", lambda: len(self.got) > n)
        expect("message", self.got[-1], b"answer %d" % n)
        left = self.channel.queue_declare("lasting", durable=True, passive=True).method.message_count
        expect("messages that are left", left, MESSAGES - 1 - n)
        self.checks += 1
        self.hold()
        return f"{self.checks} checks"


if __name__ == "__main__":
    serve(State().check)
