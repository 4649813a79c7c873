package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.Map;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Every misuse is an exception with a message, and writes nothing. */
class MisuseTest {
    private static final long[] SHAPE = {5, 3, 13, 17};
    private static final long[] PIXELS = {5, 13, 17, 3};
    private static final int COUNT = 5 * 3 * 13 * 17;

    private static Miamix miamix;
    private static Plan plan;
    private static Miamix open;
    private static Plan planOfOpen;

    @BeforeAll
    static void make() {
        miamix = Miamix.builder().numClasses(10).build();
        plan = miamix.draw(5, 13, 17, 1, 0);
        open = Miamix.builder().numClasses(10).build();
        planOfOpen = open.draw(5, 13, 17, 1, 0);
    }

    @AfterAll
    static void close() {
        plan.close();
        miamix.close();
        planOfOpen.close();
        open.close();
    }

    private static FloatBuffer direct(int count) {
        return Batches.room(DType.FLOAT32, count).asFloatBuffer();
    }

    private static Tensor images() {
        return Tensor.float32(direct(COUNT), SHAPE);
    }

    private static Tensor array() {
        return Tensor.float32(new float[COUNT], SHAPE);
    }

    private static Tensor ids(long... ids) {
        return Tensor.int64(ids, ids.length);
    }

    private static void mix(Tensor images, Tensor labels) {
        miamix.mix(Batch.of(images, labels), 1, 0);
    }

    private static void mixInto(Tensor images, Tensor mixed) {
        miamix.mix(Batch.of(images), 1, 0, new MixResult(mixed, null, null, null));
    }

    private static void interleaved(long[] images, long @Nullable [] partner, long @Nullable [] mixed) {
        try (Miamix nhwc = Miamix.builder().layout(Layout.NHWC).build()) {
            Batch batch = new Batch(Tensor.allocate(DType.UINT8, images),
                    partner == null ? null : Tensor.allocate(DType.UINT8, partner), null);
            Tensor room = Tensor.allocate(DType.UINT8, mixed == null ? images : mixed);
            nhwc.mix(batch, 1, 0, new MixResult(room, null, null, null));
        }
    }

    private static Arguments bad(Status status, String message, Executable call) {
        return Arguments.of(message, status, call);
    }

    static Stream<Arguments> calls() {
        Status value = Status.INVALID_ARGUMENT;
        Tensor shared = images();
        Tensor sharedArray = array();
        String order = ByteOrder.nativeOrder().toString();
        return Stream.of(
                // Parameters
                bad(value, "alpha: must be finite and greater than 0, got -1", () -> Miamix.builder().alpha(-1).build()),
                bad(value, "alpha: must be finite and greater than 0, got NaN",
                        () -> Miamix.builder().alpha(Float.NaN).build()),
                bad(value, "k_max: must be at most 8, got 9", () -> Miamix.builder().kMax(9).build()),
                bad(value, "k_max: must be at least 0, got -1", () -> Miamix.builder().kMax(-1)),
                bad(value, "grid_range: must be [lo, hi] with 1 <= lo <= hi <= 16, got [4, 3]",
                        () -> Miamix.builder().gridRange(4, 3).build()),
                bad(value, "method_weights.fmix: must be finite and at least 0, got -1",
                        () -> Miamix.builder().methodWeights(Map.of(Method.FMIX, -1f)).build()),
                bad(value, "n_threads: must be at most 256, got 300", () -> Miamix.builder().nThreads(300).build()),
                bad(value, "num_classes: must be at least 0, got -2", () -> Miamix.builder().numClasses(-2)),
                // Capacity
                bad(Status.SHAPE, "elements: expected 3315 elements for the shape [5, 3, 13, 17], got 3314",
                        () -> Tensor.float32(direct(COUNT - 1), SHAPE)),
                bad(Status.SHAPE, "elements: expected 3315 elements for the shape [5, 3, 13, 17], got 3316",
                        () -> Tensor.float32(new float[COUNT + 1], SHAPE)),
                bad(Status.SHAPE, "elements: expected 3315 elements for the shape [5, 3, 13, 17], got 3305",
                        () -> Tensor.float32(direct(COUNT).position(10), SHAPE)),
                bad(Status.SHAPE, "elements: expected 13260 bytes for the shape [5, 3, 13, 17], got 3315",
                        () -> Tensor.of(DType.FLOAT32, Batches.room(DType.UINT8, COUNT), SHAPE)),
                bad(Status.SHAPE, "shape: must have extents of at least 0, got [5, -3]",
                        () -> Tensor.uint8(new byte[0], 5, -3)),
                bad(Status.SHAPE, "shape: must have less than 2^63 bytes, got [0, 4294967296, 4294967296]",
                        () -> Tensor.uint8(new byte[0], 0, 1L << 32, 1L << 32)),
                bad(Status.SHAPE, "shape: must have less than 2^31 bytes, where Java makes room, got [1073741824]",
                        () -> Tensor.allocate(DType.FLOAT32, 1 << 30)),
                // Kinds of buffers
                bad(Status.DTYPE, "elements: must be a direct buffer or an array, got a buffer on the heap",
                        () -> Tensor.float32(FloatBuffer.allocate(COUNT), SHAPE)),
                bad(Status.DTYPE, "elements: must be a direct buffer or an array, got a buffer on the heap",
                        () -> Tensor.uint8(ByteBuffer.allocate(COUNT), SHAPE)),
                bad(Status.DTYPE, "elements: must be in the machine's byte order, " + order + ", got BIG_ENDIAN",
                        () -> Tensor.float32(ByteBuffer.allocateDirect(4 * COUNT).asFloatBuffer(), SHAPE)),
                bad(Status.DTYPE, "elements: must be in the machine's byte order, " + order + ", got BIG_ENDIAN",
                        () -> Tensor.of(DType.FLOAT16, ByteBuffer.allocateDirect(2 * COUNT), SHAPE)),
                bad(value, "mixed_images: must be writable, got a read-only buffer",
                        () -> mixInto(images(), Tensor.float32(direct(COUNT).asReadOnlyBuffer(), SHAPE))),
                bad(value, "mixed_images: must not overlap images, got 13260 bytes in common",
                        () -> mixInto(shared, shared)),
                bad(value, "mixed_images: must not overlap images, got 13260 bytes in common",
                        () -> mixInto(sharedArray, sharedArray)),
                bad(value, "label_weight: must not overlap mixed_images, got 4 bytes in common", () -> {
                    Tensor one = Tensor.float32(new float[1], 1, 1, 1, 1);
                    miamix.mix(Batch.of(Tensor.float32(new float[1], 1, 1, 1, 1)), 1, 0,
                            new MixResult(one, null, Tensor.float32((float[]) one.array(), 1), null));
                }),
                // Batches
                bad(Status.SHAPE, "images: expected shape [N, C, H, W] or [N, T, C, H, W], got [5, 3, 221]",
                        () -> mix(Tensor.float32(direct(COUNT), 5, 3, 221), ids(1, 2, 3, 4, 5))),
                bad(Status.SHAPE, "images: expected shape of 1 to 5 axes, got 6 axes",
                        () -> mix(Tensor.uint8(new byte[1], 1, 1, 1, 1, 1, 1), ids(1))),
                bad(Status.SHAPE, "images: must have a batch axis, got no axes",
                        () -> mix(Tensor.uint8(new byte[1]), ids(1))),
                bad(Status.DTYPE, "images: must be of float32, float16, bfloat16 or uint8, got int64",
                        () -> mix(Tensor.int64(new long[64], 1, 1, 8, 8), ids(1))),
                bad(Status.SHAPE, "labels: expected shape [5], got [4]", () -> mix(images(), ids(1, 2, 3, 4))),
                bad(value, "labels[3]: must be below num_classes = 10, got 10",
                        () -> mix(images(), ids(1, 2, 3, 10, 4))),
                bad(Status.DTYPE, "labels: must be of int64, int32 or float32, got uint8",
                        () -> mix(images(), Tensor.uint8(new byte[5], 5))),
                bad(value, "num_classes: must be 0 or 4, the columns of labels, got 10",
                        () -> mix(images(), Tensor.float32(new float[20], 5, 4))),
                bad(value, "num_classes: must be given where labels are class ids, got none", () -> {
                    try (Miamix none = Miamix.builder().build()) {
                        none.mix(Batch.of(images(), ids(1, 2, 3, 4, 5)), 1, 0);
                    }
                }),
                bad(Status.SHAPE, "partner_images: expected shape [5, 3, 13, 17], got [5, 3, 17, 13]",
                        () -> miamix.mix(
                                Batch.of(images()).withPartnerImages(Tensor.float32(direct(COUNT), 5, 3, 17, 13)), 1, 0)),
                bad(Status.SHAPE, "mixed_images: expected shape [5, 3, 13, 17], got [5, 3, 17, 13]",
                        () -> mixInto(images(), Tensor.float32(direct(COUNT), 5, 3, 17, 13))),
                bad(Status.DTYPE, "images: must be aligned to 4 bytes, got 0x…", () -> {
                    ByteBuffer odd = Batches.room(DType.UINT8, 4 * COUNT + 1).position(1);
                    mixInto(Tensor.of(DType.FLOAT32, odd.order(ByteOrder.nativeOrder()), SHAPE), images());
                }),
                // Interleaved images, in the order of their own axes
                bad(Status.SHAPE, "images: expected shape [N, H, W, C], got [4, 2, 8, 9, 3]",
                        () -> interleaved(new long[] {4, 2, 8, 9, 3}, null, null)),
                bad(Status.SHAPE, "images: expected shape [N, H, W, C], got [1, 1, 1, 1, 1, 1]",
                        () -> interleaved(new long[] {1, 1, 1, 1, 1, 1}, null, null)),
                bad(Status.SHAPE, "partner_images: expected shape [5, 13, 17, 3], got [5, 3, 13, 17]",
                        () -> interleaved(PIXELS, SHAPE, null)),
                bad(Status.SHAPE, "mixed_images: expected shape [5, 13, 17, 3], got [5, 3, 13, 17]",
                        () -> interleaved(PIXELS, null, SHAPE)),
                bad(Status.SHAPE, "images: expected shape [5, 13, 17, C], as the plan, got [5, 17, 13, 3]", () -> {
                    try (Miamix nhwc = Miamix.builder().layout(Layout.NHWC).build()) {
                        nhwc.apply(plan, Batch.of(Tensor.allocate(DType.UINT8, 5, 17, 13, 3)));
                    }
                }),
                bad(Status.SHAPE, "grad_images: expected shape [5, 13, 17, 3], got [5, 3, 13, 17]", () -> {
                    try (Miamix nhwc = Miamix.builder().layout(Layout.NHWC).build()) {
                        nhwc.backward(plan, Tensor.allocate(DType.FLOAT32, PIXELS),
                                Tensor.allocate(DType.FLOAT32, SHAPE), null);
                    }
                }),
                // Plans
                bad(value, "height: must be in 1..=32768, got 0", () -> miamix.draw(4, 0, 8, 1, 0)),
                bad(value, "samples: must be at least 0, got -4", () -> miamix.draw(-4, 8, 8, 1, 0)),
                bad(Status.PLAN, "plan: ?: EOF while parsing an object at line 1 column 1", () -> Plan.fromJson("{")),
                bad(Status.PLAN, "plan: text: EOF while parsing a value at line 1 column 0", () -> Plan.fromJson("")),
                bad(value, "sample: must be below the batch size 5, got 5", () -> plan.layers(5)),
                bad(value, "sample: must be at least 0, got -1", () -> plan.layers(-1)),
                bad(Status.SHAPE, "images: expected shape [5, C, 13, 17], as the plan, got [4, 3, 13, 17]",
                        () -> miamix.apply(plan, Batch.of(Tensor.allocate(DType.FLOAT32, 4, 3, 13, 17)))),
                bad(Status.DTYPE, "maps: must be of uint8, int8, uint16, int16, uint32, int32, uint64, int64 or bool, "
                                + "got float32",
                        () -> miamix.applyMaps(plan, Tensor.allocate(DType.FLOAT32, 5, 13, 17), null,
                                Tensor.allocate(DType.FLOAT32, 5, 13, 17))),
                bad(Status.SHAPE, "masks: expected shape [5, 13, 17], got [5, 17, 13]",
                        () -> miamix.masks(plan, Tensor.allocate(DType.FLOAT32, 5, 17, 13), null)),
                bad(Status.DTYPE, "grad_mixed: must be of float32, float16 or bfloat16, got uint8",
                        () -> miamix.backward(plan, Tensor.allocate(DType.UINT8, SHAPE),
                                Tensor.allocate(DType.UINT8, SHAPE), null)));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("calls")
    void aBadArgumentCarriesStatusAndMessage(String message, Status status, Executable call) {
        long live = Handle.LIVE.get();
        MiamixArgumentException error = assertThrows(MiamixArgumentException.class, call);
        assertEquals(message, error.getMessage().replaceFirst("0x[0-9a-f]+", "0x…"));
        assertEquals(status, error.status());
        assertEquals(0, Call.COPIED_BYTES.get());
        assertEquals(live, Handle.LIVE.get());
    }

    @Test
    void nothingIsWrittenOnError() {
        for (boolean direct : new boolean[] {true, false}) {
            Tensor mixed = direct ? images() : array();
            for (FloatBuffer all = mixed.asFloatBuffer(); all.hasRemaining();) {
                all.put(7);
            }
            byte[] before = Batches.bytes(mixed);
            assertThrows(MiamixArgumentException.class, () -> miamix.mix(Batch.of(images(), ids(1, 2, 3, 4, 99)), 1, 0,
                    new MixResult(mixed, Tensor.float32(new float[50], 5, 10), null, null)));
            assertArrayEquals(before, Batches.bytes(mixed));
        }
    }

    static Stream<Arguments> closed() {
        Miamix miamix = Miamix.builder().numClasses(10).build();
        Plan plan = miamix.draw(5, 13, 17, 1, 0);
        plan.close();
        plan.close();
        miamix.close();
        miamix.close();
        Batch batch = Batch.of(images());
        Tensor masks = Tensor.allocate(DType.FLOAT32, 5, 13, 17);
        Tensor maps = Tensor.allocate(DType.UINT8, 5, 13, 17);
        return Stream.<Arguments>of(
                Arguments.of("miamix", (Executable) () -> miamix.draw(1, 8, 8, 1, 0)),
                Arguments.of("miamix", (Executable) () -> miamix.mix(batch, 1, 0)),
                Arguments.of("miamix", (Executable) () -> miamix.apply(planOfOpen, batch)),
                Arguments.of("miamix", (Executable) () -> miamix.masks(planOfOpen, masks, null)),
                Arguments.of("miamix", (Executable) () -> miamix.applyMaps(planOfOpen, maps, null, maps)),
                Arguments.of("miamix", (Executable) () -> miamix.backward(planOfOpen, images(), images(), null)),
                Arguments.of("plan", (Executable) () -> open.apply(plan, batch)),
                Arguments.of("plan", (Executable) () -> open.masks(plan, masks, null)),
                Arguments.of("plan", (Executable) () -> open.applyMaps(plan, maps, null, maps)),
                Arguments.of("plan", (Executable) () -> open.backward(plan, images(), images(), null)),
                Arguments.of("plan", (Executable) plan::toJson),
                Arguments.of("plan", (Executable) plan::partnerIndex),
                Arguments.of("plan", (Executable) () -> plan.layers(0)));
    }

    @ParameterizedTest
    @MethodSource("closed")
    void whatIsClosedIsNotUsed(String name, Executable call) {
        IllegalStateException error = assertThrows(IllegalStateException.class, call);
        assertEquals(name + ": must be open, got a closed one", error.getMessage());
    }

    @Test
    void nullIsNoBatch() {
        assertThrows(NullPointerException.class, () -> mixNull(null));
        assertThrows(NullPointerException.class, () -> miamix.mix(Batch.of(images()), 1, 0, nothing()));
        assertThrows(NullPointerException.class, () -> mixInto(images(), nothing()));
        assertThrows(NullPointerException.class, () -> miamix.apply(nothing(), Batch.of(images())));
        assertThrows(NullPointerException.class, () -> miamix.masks(nothing(), null, null));
        assertThrows(NullPointerException.class, () -> miamix.applyMaps(plan, nothing(), null, images()));
        assertThrows(NullPointerException.class, () -> Plan.fromJson(nothing()));
        assertThrows(NullPointerException.class, () -> Miamix.builder().merge(nothing()));
        assertThrows(NullPointerException.class, () -> Miamix.builder().layout(nothing()));
    }

    private static void mixNull(Tensor images) {
        miamix.mix(Batch.of(images), 1, 0);
    }

    /** What a caller without a checker for null can pass. */
    @SuppressWarnings({"NullAway", "TypeParameterUnusedInFormals"})
    private static <T> T nothing() {
        return (T) null;
    }

    @Test
    void viewsOfAnotherTypeAreRefused() {
        Tensor floats = images();
        for (Executable view : Arrays.<Executable>asList(floats::asShortBuffer, floats::asIntBuffer, floats::asLongBuffer,
                floats::asByteBuffer)) {
            String message = assertThrows(IllegalStateException.class, view).getMessage();
            assertTrue(message.startsWith("tensor: must be ") && message.endsWith("got float32[5, 3, 13, 17]"), message);
        }
        assertThrows(IllegalStateException.class, () -> ids(1).asFloatBuffer());
    }
}
