package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

/** Many threads on one operator: the right results, and nothing left behind. */
class LeakTest {
    private static final int THREADS = 16;
    private static final int BATCHES = 1000;
    private static final int SEEDS = 8;
    private static final long[] SHAPE = {4, 3, 16, 16};

    /** One thread's batches, in its own memory; every way in and out, and one error. */
    private static void work(Miamix miamix, byte[][] expected, int batches) {
        for (Batches.Memory memory : List.of(Batches.Memory.BYTES, Batches.Memory.ARRAY)) {
            Batch batch = Batch.of(Batches.images(DType.FLOAT32, SHAPE, 0, Layout.NCHW, memory), Batches.ids(4, memory));
            Batch bad = Batch.of(batch.images(), Tensor.int64(new long[] {1, 2, 3, 99}, 4));
            MixResult room = miamix.allocate(batch);
            for (int i = 0; i < batches / 2; i++) {
                int seed = i % SEEDS;
                if (i % 2 == 0) {
                    miamix.mix(batch, seed, 0, room);
                } else {
                    try (Plan plan = miamix.draw(4, 16, 16, seed, 0); Plan again = Plan.fromJson(plan.toJson())) {
                        miamix.apply(again, batch, room);
                    }
                }
                if (i % 10 == 0) {
                    assertThrows(MiamixArgumentException.class, () -> miamix.mix(bad, 1, 0, room));
                }
                assertArrayEquals(expected[seed], everything(room));
            }
        }
    }

    private static byte[] everything(MixResult result) {
        byte[] images = Batches.bytes(result.images());
        byte[] labels = Batches.bytes(Objects.requireNonNull(result.labels()));
        byte[] all = new byte[images.length + labels.length];
        System.arraycopy(images, 0, all, 0, images.length);
        System.arraycopy(labels, 0, all, images.length, labels.length);
        return all;
    }

    /** Resident bytes of this process. */
    private static long resident() throws IOException {
        System.gc();
        return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
    }

    /** In a JVM of its own: the growth of resident memory, live objects, bytes in copies. */
    public static void main(String[] arguments) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        long growth;
        try (Miamix miamix = Miamix.builder().numClasses(10).build()) {
            byte[][] expected = new byte[SEEDS][];
            for (int seed = 0; seed < SEEDS; seed++) {
                Batch batch = Batch.of(Batches.images(DType.FLOAT32, SHAPE, 0, Layout.NCHW, Batches.Memory.BYTES),
                        Batches.ids(4, Batches.Memory.BYTES));
                expected[seed] = everything(miamix.mix(batch, seed, 0));
            }
            rounds(threads, () -> work(miamix, expected, BATCHES));
            long before = resident();
            rounds(threads, () -> work(miamix, expected, BATCHES));
            growth = resident() - before;
        }
        threads.shutdown();
        System.out.println(growth + " " + Handle.LIVE + " " + Call.COPIED_BYTES);
    }

    private static void rounds(ExecutorService threads, Runnable work) throws InterruptedException, ExecutionException {
        // All sixteen at once, so that each thread of the pool has its share.
        CountDownLatch start = new CountDownLatch(THREADS);
        List<Future<?>> results = new ArrayList<>();
        for (int i = 0; i < THREADS; i++) {
            results.add(threads.submit((Callable<Void>) () -> {
                start.countDown();
                start.await();
                work.run();
                return null;
            }));
        }
        for (Future<?> result : results) {
            result.get();
        }
    }

    @Test
    void sixteenThreadsOfAThousandBatchesLeaveNothing() throws IOException, InterruptedException {
        // All of the heap is resident from the start, and compiled code stays small: what grows is native memory.
        String printed = Child.end(Child.command(LeakTest.class, "-Dai.miamix.cache=" + System.getProperty("ai.miamix.cache"),
                "-Xms256m", "-Xmx256m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1").start());
        assertTrue(printed.matches("-?\\d+ \\d+ \\d+\nexit 0"), printed);
        String[] numbers = printed.split("\\s+");
        // 16,000 batches that each left as little as 500 bytes (a plan of four samples takes more, a copy of a batch
        // 12,288) would make 8 MB.
        assertTrue(Long.parseLong(numbers[0]) < 8_000_000, numbers[0] + " bytes more");
        assertEquals(List.of("0", "0"), List.of(numbers[1], numbers[2]));
    }

    @Test
    void closingInTheMiddleOfCallsDoesNoHarm() throws InterruptedException, ExecutionException {
        long live = Handle.LIVE.get();
        ExecutorService threads = Executors.newFixedThreadPool(4);
        for (int round = 0; round < 50; round++) {
            Miamix miamix = Miamix.builder().numClasses(10).build();
            Plan plan = miamix.draw(4, 16, 16, round, 0);
            CountDownLatch running = new CountDownLatch(4);
            List<Future<String>> ends = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                ends.add(threads.submit(() -> {
                    Batch batch = Batch.of(Batches.images(DType.UINT8, SHAPE, 0, Layout.NCHW, Batches.Memory.BYTES));
                    MixResult room = miamix.allocate(batch);
                    try {
                        while (true) {
                            miamix.apply(plan, batch, room);
                            running.countDown();
                        }
                    } catch (IllegalStateException closed) {
                        return closed.getMessage();
                    }
                }));
            }
            running.await();
            boolean planFirst = round % 2 == 0;
            if (planFirst) {
                plan.close();
            } else {
                miamix.close();
            }
            for (Future<String> end : ends) {
                assertEquals((planFirst ? "plan" : "miamix") + ": must be open, got a closed one", end.get());
            }
            plan.close();
            miamix.close();
        }
        threads.shutdown();
        assertEquals(live, Handle.LIVE.get());
    }

    @Test
    void whatIsNotClosedIsReleasedWhenItIsCollected() throws InterruptedException {
        long live = Handle.LIVE.get();
        forget();
        assertTrue(Handle.LIVE.get() > live);
        for (int i = 0; i < 500 && Handle.LIVE.get() > live; i++) {
            System.gc();
            Thread.sleep(10);
        }
        assertEquals(live, Handle.LIVE.get());
    }

    @SuppressWarnings("resource")
    private static void forget() {
        Miamix.builder().build().draw(4, 8, 8, 1, 0);
    }
}
