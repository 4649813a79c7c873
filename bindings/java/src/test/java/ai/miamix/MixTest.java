package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** What is mixed: the bits of the Rust core and of the vectors that every language meets. */
class MixTest {
    static Stream<Arguments> faces() {
        return Repository.vectors("faces").stream().flatMap(face -> Arrays.stream(Batches.Memory.values())
                .flatMap(memory -> Arrays.stream(Layout.values()).map(layout -> Arguments.of(face, memory, layout))));
    }

    @ParameterizedTest(name = "{0} {1} {2}")
    @MethodSource("faces")
    void theBitsAreThoseOfRust(Map<String, Object> face, Batches.Memory memory, Layout layout) {
        DType dtype = Batches.dtype((String) face.get("dtype"));
        long[] nchw = Batches.longs(face.get("shape"));
        long seed = Long.parseUnsignedLong((String) face.get("seed"));
        long firstSample = Long.parseUnsignedLong((String) face.get("first_sample"));
        Batch batch = Batch.of(Batches.images(dtype, nchw, 0, layout, memory), Batches.ids((int) nchw[0], memory));
        if ((Boolean) face.get("two_views")) {
            batch = batch.withPartnerImages(Batches.images(dtype, nchw, 100, layout, memory));
        }
        int numClasses = ((Number) face.get("num_classes")).intValue();
        try (Miamix miamix = Batches.builder(face.get("config")).numClasses(numClasses).layout(layout).build();
                Plan plan = miamix.draw(nchw[0], nchw[2], nchw[3], seed, firstSample)) {
            assertEquals(face.get("plan"), Batches.hash(plan.toJson().getBytes(StandardCharsets.UTF_8)));
            MixResult room = miamix.allocate(batch);
            for (MixResult result : List.of(room, miamix.mix(batch, seed, firstSample), miamix.apply(plan, batch))) {
                if (result == room) {
                    miamix.mix(batch, seed, firstSample, room);
                }
                assertEquals(face.get("images"), Batches.hash(Batches.planar(result.images(), layout)));
                assertEquals(face.get("labels"), hash(result.labels()));
                assertEquals(face.get("label_weight"), hash(result.labelWeight()));
                assertEquals(face.get("partner_index"), hash(result.partnerIndex()));
                assertEquals(memory != Batches.Memory.ARRAY, result.images().isDirect());
            }
            Tensor masks = Tensor.allocateLike(batch.images(), DType.FLOAT32, nchw[0], nchw[2], nchw[3]);
            Tensor weight = Tensor.allocateLike(batch.images(), DType.FLOAT32, nchw[0]);
            miamix.masks(plan, masks, weight);
            assertEquals(face.get("masks"), hash(masks));
            assertEquals(face.get("label_weight"), hash(weight));
        }
    }

    private static String hash(Tensor tensor) {
        return Batches.hash(Batches.bytes(Objects.requireNonNull(tensor)));
    }

    static List<Map<String, Object>> draws() {
        return Repository.vectors("draws");
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("draws")
    void drawsAreThoseOfTheReferenceToTheBit(Map<String, Object> draw) {
        long[] shape = Batches.longs(draw.get("shape"));
        String expected = Repository.GSON.toJson(draw.get("plan"));
        try (Miamix miamix = Batches.builder(draw.get("config")).build();
                Plan plan = miamix.draw(shape[0], shape[1], shape[2], Long.parseUnsignedLong((String) draw.get("seed")),
                        Long.parseUnsignedLong((String) draw.get("first_sample")));
                Plan again = Plan.fromJson(expected)) {
            assertEquals(again.toJson(), plan.toJson());
            // The core writes the numbers that the reference wrote.
            assertEquals(JsonParser.parseString(expected), JsonParser.parseString(plan.toJson()));
            List<?> samples = (List<?>) ((Map<?, ?>) draw.get("plan")).get("samples");
            for (int i = 0; i < samples.size(); i++) {
                Map<?, ?> sample = (Map<?, ?>) samples.get(i);
                assertEquals(((List<?>) sample.get("layers")).size(), plan.layers(i));
                assertEquals(((Number) sample.get("partner_index")).longValue(), plan.partnerIndex()[i]);
            }
            assertEquals(List.of(shape[0], shape[1], shape[2]), List.of(plan.samples(), plan.height(), plan.width()));
        }
    }

    @Test
    void withoutLabelsOnlyPixelsAreMixed() {
        try (Miamix miamix = Miamix.builder().build()) {
            Tensor images = Batches.images(DType.UINT8, new long[] {3, 1, 8, 9}, 0, Layout.NCHW, Batches.Memory.DIRECT);
            MixResult result = miamix.mix(Batch.of(images), 1, 0);
            assertNull(result.labels());
            Tensor alone = Tensor.allocate(DType.UINT8, 3, 1, 8, 9);
            miamix.mix(Batch.of(images), 1, 0, new MixResult(alone, null, null, null));
            assertArrayEquals(Batches.bytes(result.images()), Batches.bytes(alone));
        }
    }

    @Test
    void rowsOfLabelsAreMixedByTheirWeights() {
        float[] rows = {1, 0, 0, 1, 0.5f, 0.25f};
        try (Miamix miamix = Miamix.builder().build()) {
            Tensor images = Tensor.float32(new float[3 * 8 * 8], 3, 1, 8, 8);
            MixResult result = miamix.mix(Batch.of(images, Tensor.float32(rows, 3, 2)), 5, 0);
            float[] weight = Objects.requireNonNull(result.labelWeight()).asFloatBuffer().array();
            long[] partner = Objects.requireNonNull(result.partnerIndex()).asLongBuffer().array();
            float[] mixed = Objects.requireNonNull(result.labels()).asFloatBuffer().array();
            for (int i = 0; i < 6; i++) {
                float w = weight[i / 2];
                float other = rows[(int) partner[i / 2] * 2 + i % 2];
                float expected = w == 1 ? rows[i] : w == 0 ? other : Math.fma(w, rows[i], (1 - w) * other);
                assertEquals(expected, mixed[i]);
            }
        }
    }

    @Test
    void idsMayBeOfFourBytes() {
        try (Miamix miamix = Miamix.builder().numClasses(4).build()) {
            Tensor images = Tensor.uint8(new byte[3 * 64], 3, 1, 8, 8);
            MixResult wide = miamix.mix(Batch.of(images, Tensor.int64(new long[] {3, -1, 2}, 3)), 5, 0);
            for (Batches.Memory memory : Batches.Memory.values()) {
                var elements = Batches.room(DType.INT32, 3).putInt(3).putInt(-1).putInt(2).flip();
                Tensor ids = Batches.tensor(DType.INT32, elements, memory, 3);
                MixResult narrow = miamix.mix(Batch.of(images, ids), 5, 0);
                assertArrayEquals(Batches.bytes(Objects.requireNonNull(wide.labels())),
                        Batches.bytes(Objects.requireNonNull(narrow.labels())));
            }
        }
    }

    @Test
    void clipsOfFiveAxesAreMoreChannels() {
        try (Miamix miamix = Miamix.builder().build()) {
            Tensor flat = Batches.images(DType.FLOAT32, new long[] {4, 6, 8, 9}, 0, Layout.NCHW, Batches.Memory.BYTES);
            Tensor clips = Tensor.of(DType.FLOAT32, flat.asByteBuffer(), 4, 2, 3, 8, 9);
            assertArrayEquals(Batches.bytes(miamix.mix(Batch.of(flat), 1, 0).images()),
                    Batches.bytes(miamix.mix(Batch.of(clips), 1, 0).images()));
        }
    }

    @ParameterizedTest
    @EnumSource(value = DType.class, names = {"FLOAT32", "FLOAT16", "BFLOAT16"}, mode = EnumSource.Mode.EXCLUDE)
    void mapsTakeThePrimaryFromOneHalfOn(DType dtype) {
        int n = 4;
        int pixels = 9 * 11;
        try (Miamix miamix = Miamix.builder().pSelf(0).build(); Plan plan = miamix.draw(n, 9, 11, 3, 0)) {
            Tensor masks = Tensor.allocate(DType.FLOAT32, n, 9, 11);
            miamix.masks(plan, masks, null);
            FloatBuffer mask = masks.asFloatBuffer();
            Tensor[] maps = {Tensor.allocate(dtype, n, 9, 11), Tensor.allocate(dtype, n, 9, 11)};
            for (int view = 0; view < 2; view++) {
                var bytes = maps[view].asByteBuffer();
                for (int i = 0; bytes.hasRemaining(); i++) {
                    bytes.put((byte) (dtype == DType.BOOL ? (i * 7 + view) / 3 % 2 : i * 37 + view));
                }
            }
            Tensor mixed = Tensor.allocate(dtype, n, 9, 11);
            miamix.applyMaps(plan, maps[0], maps[1], mixed);
            Tensor once = Tensor.allocate(dtype, n, 9, 11);
            miamix.applyMaps(plan, maps[0], null, once);
            byte[][] from = {Batches.bytes(maps[0]), Batches.bytes(maps[1])};
            int size = dtype.bytes();
            for (int i = 0; i < n * pixels; i++) {
                boolean own = mask.get(i) >= 0.5f;
                int at = own ? i : (int) plan.partnerIndex()[i / pixels] * pixels + i % pixels;
                byte[] expected = Arrays.copyOfRange(from[own ? 0 : 1], at * size, (at + 1) * size);
                assertArrayEquals(expected, Arrays.copyOfRange(Batches.bytes(mixed), i * size, (i + 1) * size));
                expected = Arrays.copyOfRange(from[0], at * size, (at + 1) * size);
                assertArrayEquals(expected, Arrays.copyOfRange(Batches.bytes(once), i * size, (i + 1) * size));
            }
        }
    }

    @Test
    void gradientsAreTheSharesOfTheMask() {
        int n = 3;
        int pixels = 8 * 9;
        try (Miamix miamix = Miamix.builder().build(); Plan plan = miamix.draw(n, 8, 9, 2, 0)) {
            Tensor masks = Tensor.float32(new float[n * pixels], n, 8, 9);
            miamix.masks(plan, masks, null);
            float[] mask = masks.asFloatBuffer().array();
            float[] ones = new float[n * pixels];
            Arrays.fill(ones, 1);
            Tensor grad = Tensor.float32(ones, n, 1, 8, 9);
            Tensor images = Tensor.float32(new float[n * pixels], n, 1, 8, 9);
            Tensor partner = Tensor.float32(new float[n * pixels], n, 1, 8, 9);
            miamix.backward(plan, grad, images, partner);
            assertArrayEquals(mask, images.asFloatBuffer().array());
            float[] expected = new float[n * pixels];
            for (int i = 0; i < n * pixels; i++) {
                expected[(int) plan.partnerIndex()[i / pixels] * pixels + i % pixels] += 1 - mask[i];
            }
            assertArrayEquals(expected, partner.asFloatBuffer().array());
            Tensor both = Tensor.float32(new float[n * pixels], n, 1, 8, 9);
            miamix.backward(plan, grad, both, null);
            for (int i = 0; i < n * pixels; i++) {
                // Up to n + 1 numbers of at most 1, summed in another order: n roundings of at most 2^-22 each.
                assertEquals(mask[i] + expected[i], both.asFloatBuffer().get(i), n * 0x1p-22f);
            }
        }
    }

    @Test
    void anEmptyBatchIsOne() {
        for (Batches.Memory memory : Batches.Memory.values()) {
            try (Miamix miamix = Miamix.builder().numClasses(10).build(); Plan plan = miamix.draw(0, 8, 8, 1, 0)) {
                Tensor images = Batches.images(DType.FLOAT32, new long[] {0, 3, 8, 8}, 0, Layout.NCHW, memory);
                MixResult result = miamix.mix(Batch.of(images, Batches.ids(0, memory)), 1, 0);
                assertArrayEquals(new long[] {0, 10}, Objects.requireNonNull(result.labels()).shape());
                assertEquals(0, plan.partnerIndex().length);
            }
        }
    }

    @Test
    void elementsAreThoseFromThePositionOn() {
        var elements = Batches.room(DType.FLOAT32, 2 + 3 * 64 + 1).asFloatBuffer();
        for (int i = 0; i < elements.capacity(); i++) {
            elements.put(i, i);
        }
        float[] copy = new float[3 * 64];
        elements.get(2, copy);
        elements.position(2).limit(2 + 3 * 64);
        try (Miamix miamix = Miamix.builder().build()) {
            Tensor direct = Tensor.float32(elements, 3, 1, 8, 8);
            elements.clear();
            assertArrayEquals(Batches.bytes(miamix.mix(Batch.of(Tensor.float32(copy, 3, 1, 8, 8)), 1, 0).images()),
                    Batches.bytes(miamix.mix(Batch.of(direct), 1, 0).images()));
        }
    }

    @Test
    void aReadOnlyBufferIsRead() {
        Tensor images = Batches.images(DType.UINT8, new long[] {3, 1, 8, 8}, 0, Layout.NCHW, Batches.Memory.BYTES);
        Tensor readOnly = Tensor.uint8(images.asByteBuffer().asReadOnlyBuffer(), 3, 1, 8, 8);
        try (Miamix miamix = Miamix.builder().build()) {
            assertArrayEquals(Batches.bytes(miamix.mix(Batch.of(images), 1, 0).images()),
                    Batches.bytes(miamix.mix(Batch.of(readOnly), 1, 0).images()));
        }
    }

    @Test
    void mixedIsNotWhatCameIn() {
        // Hashes of nothing would pass above.
        try (Miamix miamix = Miamix.builder().pSelf(0).build()) {
            Tensor images = Batches.images(DType.UINT8, new long[] {8, 1, 16, 16}, 0, Layout.NCHW, Batches.Memory.ARRAY);
            MixResult result = miamix.mix(Batch.of(images), 1, 0);
            assertFalse(Arrays.equals(Batches.bytes(images), Batches.bytes(result.images())));
            assertTrue(Objects.requireNonNull(result.labelWeight()).asFloatBuffer().get(0) < 1);
        }
    }
}
