package ai.miamix;

import com.sun.jna.Native;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Pointer;
import java.lang.ref.Reference;
import java.util.Arrays;
import java.util.stream.Collectors;
import java.util.stream.LongStream;

/**
 * What a call costs beside the work of the core: prints the table of the page.
 *
 * <p>The core alone, called in a loop of C, and Java take turns in one process, with the same library, the same seeds
 * and, for direct buffers, the same memory. A turn is so many calls that reading the clock takes no part of it, after
 * some that are not counted.
 */
public final class CallBenchmark {
    private static final int CLASSES = 10;
    private static final long[][] SHAPES = {{1, 1, 1, 1}, {8, 3, 8, 8}, {8, 3, 32, 32}, {64, 3, 32, 32}};
    private static final int TURNS = 501;
    private static final long TURN_NS = 2_000_000;
    /** Until what Java compiles is compiled. */
    private static final long WARM_UP_NS = 500_000_000;

    /** The loop of C. */
    private static final class Core {
        static {
            Native.register(Core.class, NativeLibrary.getInstance(System.getProperty("miamix.core")));
        }

        static native int mix_n_times(long mix, long n, long op, long images, long labels, long numClasses,
                long mixedImages, long mixedLabels, long labelWeight, long partnerIndex);
    }

    /** So many calls, with the seeds from 0. */
    private interface Calls {
        void run(long n);
    }

    private CallBenchmark() {}

    /**
     * Measures.
     *
     * @param arguments none
     */
    public static void main(String[] arguments) {
        System.out.println("| batch | core | direct buffers | beside | arrays | beside |");
        System.out.println("|---|--:|--:|--:|--:|--:|");
        for (long[] shape : SHAPES) {
            double[] us = measure(shape);
            String batch = LongStream.of(shape).mapToObj(Long::toString).collect(Collectors.joining("×"));
            System.out.printf("| %s | %.2f | %.2f | %.2f | %.2f | %.2f |%n", batch, us[0], us[1], us[1] - us[0], us[2],
                    us[2] - us[0]);
        }
        double[] constant = medians(n -> {
            for (long i = 0; i < n; i++) {
                Lib.miamix_abi_version();
            }
        });
        System.out.printf("%nA function of the library that answers a constant: %.2f µs.%n", constant[0]);
    }

    /** Microseconds of a call: of the core, of Java with direct buffers, of Java with arrays. */
    private static double[] measure(long[] shape) {
        int n = (int) shape[0];
        int count = (int) Arrays.stream(shape).reduce(1, (a, b) -> a * b);
        float[] pixels = new float[count];
        for (int i = 0; i < count; i++) {
            pixels[i] = i % 251 / 251f;
        }
        Batch direct = Batch.of(Tensor.allocate(DType.FLOAT32, shape), Tensor.allocate(DType.INT64, n));
        direct.images().asFloatBuffer().put(pixels);
        Batch arrays = Batch.of(Tensor.float32(pixels, shape), Tensor.int64(new long[n], n));
        Config config = new Config();
        config.set("n_threads", 1);
        long[] op = new long[1];
        Lib.check(Lib.miamix_op_create(config.address(), op));
        long mix = Pointer.nativeValue(NativeLibrary.getInstance(Lib.PATH.toString()).getFunction("miamix_mix"));
        try (Miamix miamix = Miamix.builder().numClasses(CLASSES).nThreads(1).build();
                Call call = new Call(Layout.NCHW, null)) {
            MixResult room = miamix.allocate(direct);
            MixResult arrayRoom = miamix.allocate(arrays);
            long images = call.readImages("images", direct.images());
            long labels = call.read("labels", direct.labels());
            long mixedImages = call.writeImages("mixed_images", room.images());
            long mixedLabels = call.write("mixed_labels", room.labels());
            long labelWeight = call.write("label_weight", room.labelWeight());
            long partnerIndex = call.write("partner_index", room.partnerIndex());
            return medians(
                    calls -> Lib.check(Core.mix_n_times(mix, calls, op[0], images, labels, CLASSES, mixedImages,
                            mixedLabels, labelWeight, partnerIndex)),
                    calls -> {
                        for (long seed = 0; seed < calls; seed++) {
                            miamix.mix(direct, seed, 0, room);
                        }
                    },
                    calls -> {
                        for (long seed = 0; seed < calls; seed++) {
                            miamix.mix(arrays, seed, 0, arrayRoom);
                        }
                    });
        } finally {
            Lib.miamix_op_free(op[0]);
            Reference.reachabilityFence(config);
        }
    }

    /** The median time of a call of each kind, microseconds; all kinds make the same calls. */
    private static double[] medians(Calls... kinds) {
        long n = 1;
        for (Calls kind : kinds) {
            long start = System.nanoTime();
            long done = 0;
            for (long elapsed = 0; elapsed < WARM_UP_NS; elapsed = System.nanoTime() - start) {
                kind.run(100);
                done += 100;
            }
            if (kind == kinds[0]) {
                n = Math.max(1, done * TURN_NS / WARM_UP_NS);
            }
        }
        double[][] us = new double[kinds.length][TURNS];
        for (int turn = 0; turn < TURNS; turn++) {
            for (int kind = 0; kind < kinds.length; kind++) {
                // The turn before has left its own memory in the caches.
                kinds[kind].run(Math.min(n, 3));
                long start = System.nanoTime();
                kinds[kind].run(n);
                us[kind][turn] = (System.nanoTime() - start) / 1e3 / n;
            }
        }
        return Arrays.stream(us).mapToDouble(times -> Arrays.stream(times).sorted().toArray()[TURNS / 2]).toArray();
    }
}
