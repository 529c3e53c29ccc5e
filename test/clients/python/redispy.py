"""redis-py through the gateway, as on a Redis and as on a Cluster. Every reply is compared
with what it must be; any error or wrong reply ends it.

    python3 redispy.py <host> <port> <seconds>
"""

import collections
import json
import sys
import threading
import time

import redis
import redis.cluster

HOST, PORT, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
UNTIL = time.monotonic() + SECONDS

KINDS = {
    "single": lambda: redis.Redis(HOST, PORT, decode_responses=True),
    "cluster": lambda: redis.cluster.RedisCluster(HOST, PORT, decode_responses=True),
}


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


class Fleet:
    """What one kind of client does, each worker in a thread of its own."""

    def __init__(self, kind):
        self.kind = kind
        self.c = KINDS[kind]()
        self.rounds = collections.Counter()
        self.errors = []
        self.threads = []

    def key(self, k):
        return f"python-{self.kind}:{k}"

    def thread(self, what, body):
        def run():
            try:
                body()
            except Exception as e:  # whatever it is, the client has seen it
                self.errors.append(f"{self.kind}: {what}, round {self.rounds[what]}: {type(e).__name__}: {e}")

        t = threading.Thread(target=run)
        t.start()
        self.threads.append(t)
        return t

    def work(self, what, round_):
        def body():
            while time.monotonic() < UNTIL:
                round_(self.rounds[what])
                self.rounds[what] += 1

        return self.thread(what, body)

    def start(self):
        for what in ("values", "structures", "pipelines", "scripts", "scans"):
            self.work(what, getattr(self, what))
        self.queue()
        self.pubsub()
        if self.kind == "single":  # a RedisCluster of this version has neither
            self.work("transactions", self.transactions)
            self.counter()

    def values(self, i):
        k = self.key(f"v{i % 50}")
        if i >= 50:
            same(self.c.get(k), str(i - 50))
        same(self.c.set(k, i, ex=3600), True)

    def structures(self, i):
        h, s, z, l = (self.key(f"{x}{i % 20}") for x in "hszl")
        for k in (h, s, z, l):
            self.c.delete(k)
        self.c.hset(h, mapping={"a": 1, "b": i})
        self.c.sadd(s, "m", "n")
        self.c.zadd(z, {"m": 1.5, "n": -1})
        self.c.rpush(l, 1, 2, 3)
        same(self.c.hgetall(h), {"a": "1", "b": str(i)})
        same(self.c.smembers(s), {"m", "n"})
        same(self.c.zrange(z, 0, -1, withscores=True), [("n", -1.0), ("m", 1.5)])
        same(self.c.lrange(l, 0, -1), ["1", "2", "3"])

    def pipelines(self, i):
        p = self.c.pipeline(transaction=False) if self.kind == "single" else self.c.pipeline()
        for j in range(100):
            p.incr(self.key(f"p{j}"))
        same(p.execute(), [i + 1] * 100)

    def scripts(self, i):
        script = "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('LLEN', KEYS[1])"
        same(self.c.eval(script, 1, self.key(f"script{i % 7}"), i), i // 7 + 1)

    def scans(self, i):
        if i == 0:
            for j in range(200):
                self.c.set(self.key(f"stable{j}"), "x")
        same(len(set(self.c.scan_iter(self.key("stable*"), count=100))), 200)

    def transactions(self, i):
        p = self.c.pipeline()
        tag = self.key(f"{{tx{i % 10}}}")
        p.incr(tag + "a").incrby(tag + "b", 2).get(tag + "a")
        n = i // 10 + 1
        same(p.execute(), [n, 2 * n, str(n)])

    def counter(self):
        """Increments by WATCH: each that succeeds counts once."""
        key = self.key("counter")
        wins = collections.Counter()

        def one(name):
            def round_(_):
                with self.c.pipeline() as p:
                    try:
                        p.watch(key)
                        n = int(p.get(key) or 0)
                        p.multi()
                        p.set(key, n + 1)
                        p.execute()
                        wins[name] += 1
                    except redis.WatchError:
                        pass

            return round_

        for name in ("watch 0", "watch 1", "watch 2"):
            self.work(name, one(name))
        self.after_counter = lambda: same(int(self.c.get(key)), sum(wins.values()))

    def queue(self):
        """Two block for what a third gives out."""
        key = self.key("queue")
        taken = collections.Counter()
        put = [0]

        def give(i):
            self.c.rpush(key, i)
            put[0] += 1
            time.sleep(0.005)

        def take():
            idle = 0
            while giving.is_alive() or len(taken) < put[0]:
                item = self.c.blpop(key, 1)
                idle = 0 if item else idle + 1
                if item:
                    taken[item[1]] += 1
                elif idle > 60:
                    raise AssertionError(f"{put[0]} items put, {len(taken)} taken, and nothing comes any more")

        giving = self.work("put", give)
        self.thread("take", take)
        self.thread("take", take)
        self.after_queue = lambda: same(taken, collections.Counter(str(i) for i in range(put[0])))

    def pubsub(self):
        """A subscriber hears every message, in order."""
        channel = self.key("news")
        sub = self.c.pubsub()
        sub.subscribe(channel)
        same(sub.get_message(timeout=120)["type"], "subscribe")
        sent = [0]

        def publish(i):
            self.c.publish(channel, i)
            sent[0] += 1
            time.sleep(0.002)

        def listen():
            heard = 0
            last = time.monotonic()
            while publishing.is_alive() or heard < sent[0]:
                m = sub.get_message(timeout=1)
                if m is not None:
                    last = time.monotonic()
                elif heard < sent[0] and time.monotonic() > last + 60:
                    raise AssertionError(f"heard {heard} of {sent[0]} messages")
                if m is not None:
                    same(m["data"], str(heard))
                    heard += 1

        publishing = self.work("publish", publish)
        self.thread("listen", listen)

    def finish(self):
        for t in self.threads:
            t.join()
        if self.errors:
            return
        for check in ("after_counter", "after_queue"):
            if hasattr(self, check):
                getattr(self, check)()


fleets = [Fleet(kind) for kind in KINDS]
for f in fleets:
    f.start()
for f in fleets:
    f.finish()
errors = [e for f in fleets for e in f.errors]
print(json.dumps({f.kind: f.rounds for f in fleets}))
if errors:
    sys.exit("\n".join(errors))
