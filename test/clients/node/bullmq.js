// BullMQ through the gateway, as on a Redis and as on a Cluster. Every job must be done
// exactly once; an error event, a stalled job or a lost connection ends it.
//
//   node bullmq.js <host> <port> <seconds>
'use strict';

const assert = require('node:assert/strict');
const { Redis, Cluster } = require('ioredis');
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');
const { fail, sleep, summary, watchConnection } = require('./rig.js');

const [host, port, seconds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const until = Date.now() + seconds * 1000;
const retryStrategy = () => { throw new Error('the connection was lost'); };
const expectedFailure = 'the first attempt fails';
const going = () => Date.now() < until;

const kinds = {
  redis: () => new Redis({ host, port, retryStrategy, maxRetriesPerRequest: null }),
  cluster: () => new Cluster([{ host, port }], { clusterRetryStrategy: retryStrategy, slotsRefreshTimeout: 30000, redisOptions: { maxRetriesPerRequest: null } }),
};

// Shop is a set of queues over one kind of connection.
class Shop {
  constructor(kind) {
    this.kind = kind;
    this.things = [];
    this.connections = [];
    this.counts = {};
  }

  connection() {
    const c = kinds[this.kind]();
    watchConnection(this.kind, c);
    this.connections.push(c);
    return c;
  }

  // options of a queue: all its keys, and those of the other queues of a flow, in one slot.
  options(more) { return { connection: this.connection(), prefix: `{bull-${this.kind}}`, ...more }; }

  keep(thing) {
    thing.on('error', (e) => fail(`${this.kind}: ${thing.name}: error event: ${e.stack}`));
    this.things.push(thing);
    return thing;
  }

  queue(name) { return this.keep(new Queue(name, this.options())); }

  // worker does jobs; done counts by the number in their data.
  worker(name, done, process, more) {
    const w = this.keep(new Worker(name, async (job, token) => {
      const result = await process(job, token);
      done.set(job.data.n, (done.get(job.data.n) || 0) + 1);
      return result;
    }, this.options({ concurrency: 5, ...more })));
    w.on('failed', (job, e) => {
      if (e.message !== expectedFailure) fail(`${this.kind}: ${name}: job ${job && job.data.n} failed: ${e.stack}`);
    });
    w.on('stalled', (id) => fail(`${this.kind}: ${name}: job ${id} stalled: it would be done twice`));
    return w;
  }

  // settle waits until all n jobs are done, demands that each was done once, and that the
  // queue holds nothing but completed jobs.
  async settle(what, queue, done, n) {
    // A job is done here a moment before the queue knows.
    for (let i = 0; done.size < n || await queue.getCompletedCount() < n; i++) {
      assert.ok(i < 2400, `${this.kind}: ${what}: ${done.size} of ${n} jobs done, ${JSON.stringify(await queue.getJobCounts())}`);
      await sleep(100);
    }
    await sleep(500); // time for a second time
    assert.equal(done.size, n, `${this.kind}: ${what}: jobs`);
    for (const [job, times] of done) assert.equal(times, 1, `${this.kind}: ${what}: job ${job} was done ${times} times`);
    const { completed, ...rest } = await queue.getJobCounts();
    for (const [state, count] of Object.entries(rest)) assert.equal(count, 0, `${this.kind}: ${what}: ${count} jobs ${state}, ${completed} completed`);
    assert.equal(completed, n, `${this.kind}: ${what}: completed jobs`);
    assert.ok(n > 0, `${this.kind}: ${what}: no jobs`);
    this.counts[what] = n;
  }

  async run() {
    await Promise.all([this.plain(), this.bulk(), this.delayed(), this.prioritized(), this.retried(), this.limited(), this.repeated(), this.flows(), this.paused()]);
    await Promise.all(this.things.map((t) => t.close()));
    for (const c of this.connections) c.disconnect();
    return this.counts;
  }

  // plain: two workers; every job is awaited by its events, and heard of once.
  async plain() {
    const queue = this.queue('plain');
    const events = this.keep(new QueueEvents('plain', this.options()));
    await events.waitUntilReady();
    const heard = new Map();
    events.on('completed', ({ jobId }) => heard.set(jobId, (heard.get(jobId) || 0) + 1));
    const done = new Map();
    for (let w = 0; w < 2; w++) {
      this.worker('plain', done, async (job) => {
        await job.updateProgress(50);
        await job.log('half way');
        return { twice: 2 * job.data.n };
      });
    }
    let n = 0;
    for (; going(); n++) {
      const job = await queue.add('job', { n });
      if (n % 3 === 0) assert.deepEqual(await job.waitUntilFinished(events, 240000), { twice: 2 * n });
    }
    await this.settle('plain', queue, done, n);
    for (let i = 0; i < 2400 && heard.size < n; i++) await sleep(100);
    assert.equal(heard.size, n, `${this.kind}: plain: completed events`);
    for (const [id, times] of heard) assert.equal(times, 1, `${this.kind}: plain: completed event of job ${id}`);
  }

  // bulk: many at once, for workers that are idle in between and block.
  async bulk() {
    const queue = this.queue('bulk');
    const done = new Map();
    for (let w = 0; w < 3; w++) this.worker('bulk', done, async () => {});
    let n = 0;
    while (going()) {
      await queue.addBulk(Array.from({ length: 50 }, () => ({ name: 'job', data: { n: n++ } })));
      await sleep(700);
    }
    await this.settle('bulk', queue, done, n);
  }

  // delayed: none before its time.
  async delayed() {
    const queue = this.queue('delayed');
    const done = new Map();
    this.worker('delayed', done, async (job) => {
      // The server's clock has the last word, in whole milliseconds.
      const early = job.timestamp + job.opts.delay - Date.now();
      assert.ok(early <= 5, `${this.kind}: job ${job.data.n} is ${early} ms early`);
    });
    let n = 0;
    for (; going(); n++) {
      await queue.add('job', { n }, { delay: 50 + (n * 37) % 2000 });
      await sleep(10);
    }
    await this.settle('delayed', queue, done, n);
  }

  async prioritized() {
    const queue = this.queue('prioritized');
    const done = new Map();
    this.worker('prioritized', done, () => sleep(2), { concurrency: 2 });
    let n = 0;
    for (; going(); n++) {
      await queue.add('job', { n }, { priority: 1 + n % 10 });
      await sleep(5);
    }
    await this.settle('prioritized', queue, done, n);
  }

  // retried: each fails once, and is tried again after a while.
  async retried() {
    const queue = this.queue('retried');
    const done = new Map();
    const worker = this.worker('retried', done, async (job) => {
      if (job.attemptsMade === 0) throw new Error(expectedFailure);
      if (job.attemptsMade > 1) fail(`${this.kind}: job ${job.data.n} has attempt ${job.attemptsMade}`);
    });
    let failures = 0;
    worker.on('failed', () => failures++);
    let n = 0;
    for (; going(); n++) {
      await queue.add('job', { n }, { attempts: 3, backoff: { type: 'exponential', delay: 50 } });
      await sleep(20);
    }
    await this.settle('retried', queue, done, n);
    assert.equal(failures, n, `${this.kind}: failures of ${n} jobs`);
  }

  // limited: at most 40 jobs begin in any second.
  async limited() {
    const queue = this.queue('limited');
    const done = new Map();
    for (let w = 0; w < 2; w++) this.worker('limited', done, async () => {}, { limiter: { max: 40, duration: 1000 } });
    let n = 0;
    for (; going(); n++) {
      await queue.add('job', { n });
      await sleep(30);
    }
    await this.settle('limited', queue, done, n);
  }

  // repeated: a scheduler makes each next job when the one before is taken: if one were
  // lost there would be none after it.
  async repeated() {
    const queue = this.queue('repeated');
    let times = 0;
    const seen = new Map();
    const worker = this.worker('repeated', new Map(), async (job) => {
      seen.set(job.id, (seen.get(job.id) || 0) + 1);
      times++;
    });
    await queue.upsertJobScheduler('every', { every: 300 }, { name: 'job', data: {} });
    let last = 0;
    while (going()) {
      for (let i = 0; times === last; i++) {
        assert.ok(i < 2400, `${this.kind}: repeated: no job after number ${last}`);
        await sleep(100);
      }
      last = times;
    }
    await queue.removeJobScheduler('every');
    await worker.close();
    for (const [id, n] of seen) assert.equal(n, 1, `${this.kind}: repeated: ${id} was done ${n} times`);
    assert.equal((await queue.getJobSchedulers()).length, 0);
    this.counts.repeated = times;
  }

  // flows: a parent runs when its children, of another queue, are done, and has their values.
  async flows() {
    const producer = this.keep(new FlowProducer(this.options()));
    const parents = this.queue('parents');
    const children = this.queue('children');
    const [parentsDone, childrenDone] = [new Map(), new Map()];
    this.worker('children', childrenDone, async (job) => job.data.n);
    this.worker('parents', parentsDone, async (job) => {
      const values = Object.values(await job.getChildrenValues()).sort((a, b) => a - b);
      const n = job.data.n;
      if (JSON.stringify(values) !== JSON.stringify([3 * n, 3 * n + 1, 3 * n + 2])) fail(`${this.kind}: parent ${n} has the values ${values}`);
    });
    let n = 0;
    for (; going(); n++) {
      await producer.add({ name: 'parent', queueName: 'parents', data: { n },
        children: [0, 1, 2].map((i) => ({ name: 'child', queueName: 'children', data: { n: 3 * n + i } })) });
      await sleep(20);
    }
    await this.settle('children', children, childrenDone, 3 * n);
    await this.settle('parents', parents, parentsDone, n);
  }

  // paused: the queue is paused and resumed, and jobs are removed while they wait.
  async paused() {
    const queue = this.queue('paused');
    const done = new Map();
    this.worker('paused', done, async (job) => {
      if (job.data.removed) fail(`${this.kind}: a removed job ran`);
    });
    let n = 0;
    while (going()) {
      await queue.pause();
      const doomed = await queue.add('job', { removed: true }, { delay: 3600000 });
      for (let i = 0; i < 5; i++) await queue.add('job', { n: n++ });
      assert.equal(await doomed.getState(), 'delayed');
      await doomed.remove();
      await queue.resume();
      await sleep(200);
    }
    await this.settle('paused', queue, done, n);
  }
}

summary(async () => {
  const out = {};
  await Promise.all(Object.keys(kinds).map(async (kind) => { out[kind] = await new Shop(kind).run(); }));
  return out;
});
