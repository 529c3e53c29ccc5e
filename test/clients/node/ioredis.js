// ioredis through the gateway, as a Redis and as a Cluster, in RESP2 and RESP3. Every reply
// is compared with what it must be; any error, lost connection or wrong reply ends it.
//
//   node ioredis.js <host> <port> <seconds>
'use strict';

const assert = require('node:assert/strict');
const { Redis, Cluster } = require('ioredis');
const { sleep, summary, watchConnection } = require('./rig.js');

const [host, port, seconds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const until = Date.now() + seconds * 1000;
const retryStrategy = () => { throw new Error('the connection was lost'); };

const scripts = {
  append1: { numberOfKeys: 1, lua: "redis.call('RPUSH', KEYS[1], ARGV[1]) return {redis.call('LLEN', KEYS[1]), ARGV[1]}" },
};
const redis = (more) => new Redis({ host, port, retryStrategy, scripts, ...more });
const cluster = (more) => new Cluster([{ host, port }], { clusterRetryStrategy: retryStrategy, slotsRefreshTimeout: 30000, maxRedirections: 0, scripts, ...more });

const kinds = {
  single: () => redis(),
  resp2: () => redis({ protocol: 2 }),
  resp3: () => redis({ protocol: 3 }),
  autopipelining: () => redis({ enableAutoPipelining: true }),
  cluster: () => cluster(),
  scaled: () => cluster({ enableAutoPipelining: true, scaleReads: 'slave' }),
};

// fleet is what one kind of client does, all at the same time.
class Fleet {
  constructor(kind) {
    this.kind = kind;
    this.rounds = {};
    this.open = [];
    this.c = this.connect();
  }

  connect() {
    const c = kinds[this.kind]();
    watchConnection(this.kind, c);
    this.open.push(c);
    return c;
  }

  key(k) { return `${this.kind}:${k}`; }

  async work(what, round) {
    for (let i = 0; Date.now() < until; i++) {
      try {
        await round(i);
      } catch (e) {
        throw new Error(`${this.kind}: ${what}, round ${i}: ${e.stack}`);
      }
      this.rounds[what] = i + 1;
    }
  }

  async run() {
    await this.c.ping();
    await Promise.all([
      this.work('values', (i) => this.values(i)),
      this.work('structures', (i) => this.structures(i)),
      this.work('pipelines', (i) => this.pipelines(i)),
      this.work('multi', (i) => this.multi(i)),
      this.work('scripts', (i) => this.scripts(i)),
      this.work('scans', (i) => this.scans(i)),
      this.watch(),
      this.queue('blpop'), this.queue('bzpopmin'), this.queue('xread'),
      this.pubsub(),
    ]);
    for (const c of this.open) c.disconnect();
    return this.rounds;
  }

  async values(i) {
    const k = this.key(`v${i % 50}`);
    if (i >= 50) assert.equal(await this.c.get(k), String(i - 50));
    assert.equal(await this.c.set(k, i, 'EX', 3600), 'OK');
    const b = this.key(`buffer${i % 50}`);
    const bytes = Buffer.from([0, 13, 10, 255, i % 256]);
    await this.c.set(b, bytes);
    assert.deepEqual(await this.c.getBuffer(b), bytes);
  }

  async structures(i) {
    const keys = ['h', 's', 'z', 'l'].map((k) => this.key(`${k}${i % 20}`));
    const [h, s, z, l] = keys;
    await Promise.all(keys.map((k) => this.c.del(k)));
    await Promise.all([this.c.hset(h, { a: 1, b: i }), this.c.sadd(s, 'm', 'n'), this.c.zadd(z, 1.5, 'm', -1, 'n'), this.c.rpush(l, 1, 2, 3)]);
    assert.deepEqual({ ...await this.c.hgetall(h) }, { a: '1', b: String(i) });
    assert.deepEqual([...await this.c.smembers(s)].sort(), ['m', 'n']);
    assert.deepEqual(await this.c.zrange(z, 0, -1), ['n', 'm']);
    assert.equal(Number(await this.c.zscore(z, 'm')), 1.5);
    assert.deepEqual(await this.c.lrange(l, 0, -1), ['1', '2', '3']);
  }

  // A Cluster wants the keys of one pipeline at one node.
  async pipelines(i) {
    const p = this.c.pipeline();
    for (let j = 0; j < 100; j++) p.incr(this.key(`{p${i % 10}}${j}`)).set(this.key(`{p${i % 10}}c`), j);
    const replies = await p.exec();
    assert.equal(replies.length, 200);
    for (let j = 0; j < 100; j++) {
      assert.deepEqual(replies[2 * j], [null, Math.floor(i / 10) + 1]);
      assert.deepEqual(replies[2 * j + 1], [null, 'OK']);
    }
  }

  async multi(i) {
    const tag = this.key(`{tx${i % 10}}`);
    const n = Math.floor(i / 10) + 1;
    assert.deepEqual(await this.c.multi().incr(`${tag}a`).incrby(`${tag}b`, 2).get(`${tag}a`).exec(), [[null, n], [null, 2 * n], [null, String(n)]]);
  }

  async scripts(i) {
    assert.deepEqual(await this.c.append1(this.key(`script${i % 7}`), i), [Math.floor(i / 7) + 1, String(i)]);
  }

  async scans(i) {
    const keys = 300;
    if (i === 0) for (let j = 0; j < keys; j++) await this.c.set(this.key(`stable${j}`), 'x');
    const nodes = this.c.nodes ? this.c.nodes('master') : [this.c];
    const seen = new Set(); // each node shows every key: it is the same gateway
    for await (const page of nodes[i % nodes.length].scanStream({ match: this.key('stable*'), count: 200 })) for (const k of page) seen.add(k);
    assert.equal(seen.size, keys);
  }

  async watch() {
    let wins = 0;
    const key = this.key('counter');
    const clients = [];
    for (let w = 0; w < 3; w++) {
      // A Cluster has one connection to a node, which WATCH needs for itself.
      const c = this.c.nodes ? redis() : this.connect();
      if (this.c.nodes) { watchConnection(this.kind, c); this.open.push(c); }
      clients.push(this.work(`watch ${w}`, async () => {
        await c.watch(key);
        const n = Number(await c.get(key) || 0);
        if (await c.multi().set(key, n + 1).exec() !== null) wins++;
      }));
    }
    await Promise.all(clients);
    assert.equal(Number(await this.c.get(key)), wins, `${this.kind}: the counter after ${wins} successes`);
  }

  // queue has two clients block for the items that a third one gives out.
  async queue(how) {
    const key = this.key(`queue:${how}`);
    const taken = new Map();
    let put = 0;
    let over = false;
    let last = '0';
    const take = {
      blpop: async (c) => { const v = await c.blpop(key, 1); return v && [v[1]]; },
      bzpopmin: async (c) => { const v = await c.bzpopmin(key, 1); return v && [v[1]]; },
      xread: async (c) => {
        const v = await c.xread('COUNT', 10, 'BLOCK', 1000, 'STREAMS', key, last);
        if (!v) return null;
        const entries = Array.isArray(v) ? v[0][1] : Object.values(v)[0];
        last = entries.at(-1)[0];
        return entries.map((e) => e[1][1]);
      },
    }[how];
    const takers = [];
    for (let w = 0; w < (how === 'xread' ? 1 : 2); w++) {
      const c = this.connect();
      takers.push((async () => {
        for (let idle = 0; !(over && taken.size >= put);) {
          const items = await take(c);
          for (const item of items || []) taken.set(item, (taken.get(item) || 0) + 1);
          idle = items ? 0 : idle + 1;
          assert.ok(idle < 60, `${this.kind}: ${how}: ${put} items put, ${taken.size} taken, and nothing comes any more`);
        }
      })());
    }
    await this.work(`put for ${how}`, async (i) => {
      if (how === 'blpop') await this.c.rpush(key, i);
      else if (how === 'bzpopmin') await this.c.zadd(key, i, `m${i}`);
      else await this.c.xadd(key, '*', 'item', i);
      put++;
      await sleep(5);
    });
    over = true;
    await Promise.all(takers);
    for (const [item, n] of taken) assert.equal(n, 1, `${this.kind}: ${how}: ${item} was taken ${n} times`);
    assert.equal(taken.size, put);
  }

  async pubsub() {
    const sub = this.connect();
    const channel = this.key('news');
    const got = { message: 0, pmessage: 0 };
    const wrong = [];
    const see = (event, m) => { if (m !== String(got[event])) wrong.push(`${event} ${m} instead of ${got[event]}`); got[event]++; };
    sub.on('message', (_, m) => see('message', m));
    sub.on('pmessage', (_p, _c, m) => see('pmessage', m));
    await sub.subscribe(channel);
    await sub.psubscribe(`${channel}*`);
    let sent = 0;
    await this.work('publish', async (i) => {
      assert.equal(await this.c.publish(channel, i), 2);
      sent++;
      await sleep(2);
    });
    for (let i = 0; i < 2400 && (got.message < sent || got.pmessage < sent); i++) await sleep(100);
    assert.deepEqual(wrong.slice(0, 3), []);
    assert.deepEqual(got, { message: sent, pmessage: sent });
  }
}

summary(async () => {
  const out = {};
  await Promise.all(Object.keys(kinds).map(async (kind) => { out[kind] = await new Fleet(kind).run(); }));
  return out;
});
