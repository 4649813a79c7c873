package ai.miamix;

import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What a call costs. A batch of one pixel takes the core next to nothing, so all of its time, of which the core has a
 * part, is a bound for what Java adds; the call of a function that returns a constant is the least that JNA takes.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 3, time = 1)
@Fork(1)
public class CallBenchmark {
    @Param({"1x1x1x1", "8x3x32x32"})
    private String shape = "";

    private Miamix miamix = Miamix.builder().numClasses(10).nThreads(1).build();
    private Plan plan = miamix.draw(1, 1, 1, 0, 0);
    private Batch direct = Batch.of(Tensor.allocate(DType.UINT8, 1, 1, 1, 1));
    private Batch arrays = direct;
    private MixResult directRoom = miamix.allocate(direct);
    private MixResult arrayRoom = directRoom;

    @Setup
    public void open() {
        String[] extents = shape.split("x");
        long[] nchw = new long[4];
        for (int i = 0; i < 4; i++) {
            nchw[i] = Long.parseLong(extents[i]);
        }
        int n = (int) nchw[0];
        int count = (int) (n * nchw[1] * nchw[2] * nchw[3]);
        plan = miamix.draw(n, nchw[2], nchw[3], 0, 0);
        direct = Batch.of(Tensor.allocate(DType.FLOAT32, nchw), Tensor.allocate(DType.INT64, n));
        arrays = Batch.of(Tensor.float32(new float[count], nchw), Tensor.int64(new long[n], n));
        directRoom = miamix.allocate(direct);
        arrayRoom = miamix.allocate(arrays);
    }

    @TearDown
    public void close() {
        plan.close();
        miamix.close();
    }

    @Benchmark
    public int jna() {
        return Lib.miamix_abi_version();
    }

    @Benchmark
    public void mixDirect() {
        miamix.mix(direct, 0, 0, directRoom);
    }

    @Benchmark
    public void mixArrays() {
        miamix.mix(arrays, 0, 0, arrayRoom);
    }

    @Benchmark
    public void applyDirect() {
        miamix.apply(plan, direct, directRoom);
    }

    @Benchmark
    public Plan drawAndClose() {
        try (Plan drawn = miamix.draw(plan.samples(), plan.height(), plan.width(), 0, 0)) {
            return drawn;
        }
    }
}
