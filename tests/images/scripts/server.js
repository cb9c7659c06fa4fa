// A Node.js server with its clients: connections that are kept alive, timers, promises, a worker thread with shared memory, a child, a stream.
const http = require('http'), net = require('net'), crypto = require('crypto'), fs = require('fs'), zlib = require('zlib');
const { spawn } = require('child_process');
const { Worker, isMainThread, workerData, parentPort } = require('worker_threads');

if (!isMainThread) {
  const numbers = new Int32Array(workerData);
  for (let turn = 0; ; turn++) {
    Atomics.wait(numbers, 0, turn);           // until the main thread has set it to turn + 1
    Atomics.store(numbers, 1, 2 * (turn + 1));
    Atomics.notify(numbers, 1);
    parentPort.postMessage(turn);
  }
}

const expect = (what, got, want) => { if (got !== want) throw new Error(`${what} is ${got}; it was ${want}`); };
const digest = data => crypto.createHash('sha256').update(data).digest('hex');
const answerOf = (stream, line) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error('no answer within 5 s')), 5000);
  stream.once('data', data => { clearTimeout(timer); resolve(data.toString()); });
  line(); });

async function main() {
  const blocks = Array.from({ length: 64 }, () => crypto.randomBytes(1 << 20)), digests = blocks.map(digest);
  const map = new Map(Array.from({ length: 100000 }, (_, i) => [`key${i}`, { square: i * i }]));
  let ticks = 0, seen = 0, checks = 0, sequence = (function* () { for (let n = 0; ; n++) yield n; })();
  setInterval(() => ticks++, 20);
  const sums = net.createServer(socket => { let total = 0; socket.on('data', d => { total += Number(d); socket.write(`${total}`); }); });
  await new Promise(resolve => sums.listen(7000, '127.0.0.1', resolve));
  const clients = [];
  for (let i = 0; i < 30; i++) await new Promise(resolve => { const c = net.connect(7000, '127.0.0.1', resolve); clients.push(c); });
  const shared = new SharedArrayBuffer(1 << 20), numbers = new Int32Array(shared);
  const worker = new Worker(__filename, { workerData: shared });
  let told = [];
  worker.on('message', m => told.push(m));
  const child = spawn('cat', [], { stdio: ['pipe', 'pipe', 'inherit'] });
  let changes = 0;
  fs.mkdirSync('/work/watched', { recursive: true });
  fs.watch('/work/watched', () => changes++);
  let plain = '', packed = Buffer.alloc(0);
  const gzip = zlib.createGzip();
  gzip.on('data', d => { packed = Buffer.concat([packed, d]); });
  let pending, release;
  const wait = () => { pending = new Promise(resolve => { release = resolve; }); };
  wait();

  async function check() {
    blocks.forEach((block, i) => expect(`digest of block ${i}`, digest(block), digests[i]));
    let total = 0;
    for (const { square } of map.values()) total += square;
    expect('sum of the map', total, 333328333350000);
    expect('generator', sequence.next().value, checks);
    for (const c of clients) expect('sum of a connection', await answerOf(c, () => c.write(`${checks}`)), `${checks * (checks + 1) / 2}`);
    expect('answer of the child', await answerOf(child.stdout, () => child.stdin.write(`line ${checks}\n`)), `line ${checks}\n`);
    Atomics.store(numbers, 0, checks + 1);
    Atomics.notify(numbers, 0);
    expect('answer of the worker', Atomics.wait(numbers, 1, 2 * checks, 5000) === 'timed-out', false);
    expect('number of the worker', numbers[1], 2 * (checks + 1));
    const before = changes;
    fs.writeFileSync(`/work/watched/${checks}`, 'x');
    const line = `line ${checks}\n`.repeat(100);
    plain += line;
    await new Promise(resolve => { gzip.write(line); gzip.flush(resolve); });
    expect('what was compressed', zlib.gunzipSync(packed, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).toString(), plain);
    setTimeout(release, 50);
    await pending;
    wait();
    const now = ticks;
    await new Promise(resolve => setTimeout(resolve, 200));
    if (now < seen || ticks <= now) throw new Error(`the timer went from ${seen} to ${now} to ${ticks}`);
    seen = ticks;
    if (changes === before) throw new Error('a change in the watched folder was not told');
    expect('turns of the worker', told.length, checks + 1);
    checks++;
    return `${checks} checks, ${ticks} ticks`;
  }

  http.createServer(async (request, response) => {
    try { response.end(`ok\n${await check()}\n`); } catch (e) { response.statusCode = 500; response.end(e.stack); }
  }).listen(8080);
}

if (isMainThread) main();
