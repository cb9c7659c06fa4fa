import com.sun.net.httpserver.HttpServer;
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.zip.CRC32;

/** A warm Java program: threads of both kinds, a heap that grows, memory outside the heap, a file lock, sockets, a child, timers. */
public class Fidelity {
    static final int BLOCK = 1 << 20;
    final List<byte[]> heap = new ArrayList<>();
    final List<Long> sums = new ArrayList<>();
    final ByteBuffer direct = ByteBuffer.allocateDirect(64 << 20);
    final long directSum;
    final FileLock lock;
    final MappedByteBuffer mapped;
    final ExecutorService workers = Executors.newFixedThreadPool(4), virtual = Executors.newVirtualThreadPerTaskExecutor();
    final ScheduledExecutorService timers = Executors.newScheduledThreadPool(1);
    final AtomicLong ticks = new AtomicLong();
    final ConcurrentHashMap<String, Long> map = new ConcurrentHashMap<>();
    final List<Socket> clients = new ArrayList<>();
    final Process child;
    final Random random = new Random(4);
    final Object monitor = new Object();
    Future<Long> waiting;
    long checks, warm, lastTicks = -1;

    Fidelity() throws Exception {
        Random filler = new Random(7);
        while (direct.hasRemaining()) direct.putLong(filler.nextLong());
        directSum = sum(direct.duplicate().flip());
        FileChannel file = FileChannel.open(Path.of("/data/file"), StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
        lock = file.lock();
        mapped = file.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
        for (int i = 0; i < 1000; i++) map.put("key" + i, (long) i * i);
        grow();
        for (int i = 0; i < 2000; i++) warm = fibonacciSum(5000);   // compiled by now
        int port = listen();
        for (int i = 0; i < 20; i++) clients.add(new Socket("127.0.0.1", port));
        child = new ProcessBuilder("cat").start();
        timers.scheduleAtFixedRate(ticks::incrementAndGet, 20, 20, TimeUnit.MILLISECONDS);
        waiting = virtual.submit(this::waitForTurn);
    }

    /** Adds 8 MiB with a sum of their own. */
    void grow() {
        for (int i = 0; i < 8; i++) {
            byte[] block = new byte[BLOCK];
            random.nextBytes(block);
            heap.add(block);
            sums.add(sum(ByteBuffer.wrap(block)));
        }
    }

    static long sum(ByteBuffer data) {
        CRC32 crc = new CRC32();
        crc.update(data);
        return crc.getValue();
    }

    static long fibonacciSum(int n) {
        long a = 0, b = 1, total = 0;
        for (int i = 0; i < n; i++) { long c = a + b; a = b; b = c; total = total * 31 + a; }
        return total;
    }

    /** A server with one thread and a selector, which answers each number with the sum of those of the same connection. */
    int listen() throws IOException {
        ServerSocketChannel server = ServerSocketChannel.open().bind(new InetSocketAddress("127.0.0.1", 0));
        Selector selector = Selector.open();
        server.configureBlocking(false).register(selector, SelectionKey.OP_ACCEPT);
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    selector.select(key -> { try { serve(selector, server, key); } catch (IOException e) { e.printStackTrace(); } });
                }
            } catch (IOException e) { e.printStackTrace(); }
        }, "server");
        thread.setDaemon(true);
        thread.start();
        return server.socket().getLocalPort();
    }

    static void serve(Selector selector, ServerSocketChannel server, SelectionKey key) throws IOException {
        if (key.isAcceptable()) {
            server.accept().configureBlocking(false).register(selector, SelectionKey.OP_READ, new long[1]);
            return;
        }
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer number = ByteBuffer.allocate(8);
        if (channel.read(number) != 8) { key.cancel(); return; }
        long[] total = (long[]) key.attachment();
        total[0] += number.flip().getLong();
        channel.write(ByteBuffer.allocate(8).putLong(total[0]).flip());
    }

    /** Waits on a monitor until the next check. */
    long waitForTurn() throws InterruptedException {
        synchronized (monitor) { monitor.wait(); }
        return checks;
    }

    static void expect(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) throw new IllegalStateException(what + " is " + got + "; it was " + want);
    }

    synchronized String check() throws Exception {
        List<Future<Long>> parts = new ArrayList<>();
        for (byte[] block : heap) parts.add(workers.submit(() -> sum(ByteBuffer.wrap(block))));
        for (int i = 0; i < parts.size(); i++) expect("sum of block " + i, parts.get(i).get(10, TimeUnit.SECONDS), sums.get(i));
        expect("sum of the direct buffer", sum(direct.duplicate().flip()), directSum);
        expect("result of the compiled method", fibonacciSum(5000), warm);
        expect("map", map.values().stream().mapToLong(Long::longValue).sum(), 332833500L);
        expect("lock", lock.isValid(), true);
        expect("mapped file", mapped.getLong((int) (8 * checks)), 0L);
        for (int i = 0; i < checks; i++) expect("mapped file at " + i, mapped.getLong(8 * i), (long) i + 1);
        mapped.putLong((int) (8 * checks), checks + 1);
        for (Socket client : clients) {
            client.setSoTimeout(5000);
            new DataOutputStream(client.getOutputStream()).writeLong(checks);
            expect("answer of the server", new DataInputStream(client.getInputStream()).readLong(), checks * (checks + 1) / 2);
        }
        child.getOutputStream().write(("line " + checks + "\n").getBytes(StandardCharsets.UTF_8));
        child.getOutputStream().flush();
        expect("answer of the child", child.inputReader().readLine(), "line " + checks);
        if (ticks.get() <= lastTicks) throw new IllegalStateException("the timer stands at " + lastTicks);
        long now = ticks.get();
        for (int i = 0; i < 200 && ticks.get() == now; i++) Thread.sleep(10);
        if (ticks.get() == now) throw new IllegalStateException("the timer stands at " + now);
        lastTicks = ticks.get();
        synchronized (monitor) { monitor.notifyAll(); }
        waiting.get(5, TimeUnit.SECONDS);
        checks++;
        waiting = virtual.submit(this::waitForTurn);
        grow();
        for (int i = 0; i < 50; i++) heapGarbage(i);
        System.gc();
        return checks + " checks, " + heap.size() + " MiB, " + ticks + " ticks";
    }

    static int heapGarbage(int i) { return new byte[BLOCK + i].length; }

    public static void main(String[] args) throws Exception {
        Fidelity state = new Fidelity();
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/check", exchange -> {
            int status = 200;
            byte[] text;
            try {
                text = ("ok\n" + state.check() + "\n").getBytes(StandardCharsets.UTF_8);
            } catch (Exception e) {
                status = 500;
                StringWriter trace = new StringWriter();
                e.printStackTrace(new PrintWriter(trace));
                text = trace.toString().getBytes(StandardCharsets.UTF_8);
            }
            exchange.sendResponseHeaders(status, text.length);
            try (OutputStream out = exchange.getResponseBody()) { out.write(text); }
        });
        server.start();
    }
}
