package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The operator inside ONNX Runtime, registered from the jar's library, gives the bits of this package. */
class OnnxRuntimeTest {
    private static Path program = Path.of("");

    @TempDir
    private Path folder;

    @BeforeAll
    static void findTheProgram() {
        program = Path.of(System.getProperty("miamix.program"));
        if (!Files.isExecutable(program)) {
            String reason = "NOT RUN: -Dmiamix.program= must be the path of the miamix program, which writes models";
            if ("true".equals(System.getenv("CI"))) {
                throw new AssertionError(reason);
            }
            Assumptions.abort(reason);
        }
    }

    @ParameterizedTest
    @CsvSource({"f32, NCHW", "f32, NHWC", "f16, NCHW", "bf16, NHWC", "u8, NCHW", "u8, NHWC"})
    void theBitsAreTheSame(String name, Layout layout) throws Exception {
        Path model = model("--dtype", name, "--layout", layout.name().toLowerCase(Locale.ROOT), "--num-classes", "10",
                "--masks", "--k-max", "3", "--p-flip", "0.5", "--pad-px", "2", "--label-smoothing", "0.1");
        DType dtype = Batches.dtype(name);
        long[] nchw = {7, 3, 19, 23};
        Batch batch = Batch.of(Batches.images(dtype, nchw, 0, layout, Batches.Memory.BYTES),
                Batches.ids(7, Batches.Memory.BYTES))
                .withPartnerImages(Batches.images(dtype, nchw, 100, layout, Batches.Memory.BYTES));
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions();
                Miamix miamix = Miamix.builder().numClasses(10).layout(layout).kMax(3).pFlip(0.5f).padPx(2)
                        .labelSmoothing(0.1f).build();
                Plan plan = miamix.draw(7, 19, 23, -5, 11)) {
            options.registerCustomOpLibrary(Miamix.libraryPath().toString());
            Tensor masks = Tensor.allocate(DType.FLOAT32, 7, 19, 23);
            miamix.masks(plan, masks, null);
            MixResult expected = miamix.mix(batch, -5, 11);
            try (OrtSession session = environment.createSession(model.toString(), options);
                    Feeds feeds = new Feeds(environment, batch, -5, 11);
                    OrtSession.Result result = session.run(feeds.tensors)) {
                assertEquals(List.of("mixed_images", "mixed_labels", "label_weight", "partner_index", "masks"),
                        List.copyOf(session.getOutputNames()));
                assertSame(expected.images(), result.get(0));
                assertSame(expected.labels(), result.get(1));
                assertSame(expected.labelWeight(), result.get(2));
                assertSame(expected.partnerIndex(), result.get(3));
                assertSame(masks, result.get(4));
            }
        }
    }

    private static void assertSame(Tensor expected, Object got) {
        ByteBuffer bytes = ((OnnxTensor) got).getByteBuffer();
        byte[] copy = new byte[bytes.remaining()];
        bytes.get(copy);
        assertArrayEquals(Batches.bytes(Objects.requireNonNull(expected)), copy);
    }

    private Path model(String... arguments) throws IOException, InterruptedException {
        Path model = folder.resolve("model.onnx");
        List<String> command = new java.util.ArrayList<>(List.of(program.toString(), "model", "--out", model.toString()));
        command.addAll(List.of(arguments));
        assertEquals(0, new ProcessBuilder(command).inheritIO().start().waitFor());
        return model;
    }

    /** A batch as the model takes it. */
    private static final class Feeds implements AutoCloseable {
        final Map<String, OnnxTensor> tensors = new LinkedHashMap<>();

        Feeds(OrtEnvironment environment, Batch batch, long seed, long firstSample) throws OrtException {
            OnnxJavaType type = switch (batch.images().dtype()) {
                case FLOAT32 -> OnnxJavaType.FLOAT;
                case FLOAT16 -> OnnxJavaType.FLOAT16;
                case BFLOAT16 -> OnnxJavaType.BFLOAT16;
                default -> OnnxJavaType.UINT8;
            };
            Tensor partner = Objects.requireNonNull(batch.partnerImages());
            Tensor labels = Objects.requireNonNull(batch.labels());
            tensors.put("images", OnnxTensor.createTensor(environment, batch.images().asByteBuffer(), batch.images().shape(), type));
            tensors.put("partner_images", OnnxTensor.createTensor(environment, partner.asByteBuffer(), partner.shape(), type));
            tensors.put("labels", OnnxTensor.createTensor(environment, labels.asLongBuffer(), labels.shape()));
            tensors.put("seed", OnnxTensor.createTensor(environment, seed));
            tensors.put("first_sample", OnnxTensor.createTensor(environment, firstSample));
            tensors.put("training_mode", OnnxTensor.createTensor(environment, true));
        }

        @Override
        public void close() {
            tensors.values().forEach(OnnxTensor::close);
        }
    }
}
