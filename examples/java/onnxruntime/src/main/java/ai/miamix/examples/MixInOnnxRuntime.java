package ai.miamix.examples;

import ai.miamix.Batch;
import ai.miamix.DType;
import ai.miamix.Layout;
import ai.miamix.Miamix;
import ai.miamix.MixResult;
import ai.miamix.Tensor;
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.awt.image.DataBufferByte;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import javax.imageio.ImageIO;

/**
 * Photographs mixed by the operator inside ONNX Runtime, and by this package: the bytes are the same.
 *
 * <pre>{@code
 * target/release/miamix model --dtype u8 --layout nhwc --num-classes 10 --out model.onnx
 * mvn -f examples/java/onnxruntime compile exec:java -Dexec.args="model.onnx photographs mixed.png"
 * }</pre>
 *
 * <p>The picture has the photographs above and the mixed ones below. Any number of photographs fits any number of
 * classes: their class ids are 0, 1 and so on, and 0 again after the last class of the model.
 */
public final class MixInOnnxRuntime {
    private static final int SIDE = 160;

    private MixInOnnxRuntime() {}

    /**
     * Mixes a folder of photographs.
     *
     * @param arguments the model, the folder, and the picture to write
     * @throws IOException if a file cannot be read or written
     * @throws OrtException if ONNX Runtime fails
     */
    public static void main(String[] arguments) throws IOException, OrtException {
        if (arguments.length != 3) {
            throw new IllegalArgumentException("expected MODEL PHOTOGRAPHS PICTURE, got " + arguments.length + " arguments");
        }
        List<Path> files;
        try (Stream<Path> paths = Files.list(Path.of(arguments[1]))) {
            files = paths.filter(path -> path.toString().matches("(?i).*\\.(png|jpe?g)")).sorted().toList();
        }
        int n = files.size();
        Tensor images = Tensor.allocate(DType.UINT8, n, SIDE, SIDE, 3);
        ByteBuffer pixels = images.asByteBuffer();
        for (Path file : files) {
            pixels.put(square(ImageIO.read(file.toFile())));
        }
        Tensor labels = Tensor.allocate(DType.INT64, n);
        long seed = 4;
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.registerCustomOpLibrary(Miamix.libraryPath().toString());
            try (OrtSession session = environment.createSession(arguments[0], options)) {
                int numClasses = numClasses(session);
                for (int i = 0; i < n; i++) {
                    labels.asLongBuffer().put(i, i % numClasses);
                }
                try (OnnxTensor given = OnnxTensor.createTensor(environment, images.asByteBuffer(), images.shape(),
                                OnnxJavaType.UINT8);
                        OnnxTensor ids = OnnxTensor.createTensor(environment, labels.asLongBuffer(), labels.shape());
                        OnnxTensor seeds = OnnxTensor.createTensor(environment, seed);
                        OnnxTensor zero = OnnxTensor.createTensor(environment, 0L);
                        OnnxTensor yes = OnnxTensor.createTensor(environment, true);
                        OrtSession.Result result = session.run(Map.of("images", given, "partner_images", given,
                                "labels", ids, "seed", seeds, "first_sample", zero, "training_mode", yes));
                        // The model's parameters are the defaults, too.
                        Miamix miamix = Miamix.builder().numClasses(numClasses).layout(Layout.NHWC).build()) {
                    MixResult expected = miamix.mix(Batch.of(images, labels), seed, 0);
                    boolean same = bytes(result, "mixed_images").equals(expected.images().asByteBuffer())
                            && bytes(result, "mixed_labels").equals(expected.labels().asByteBuffer());
                    System.out.println(same ? n + " photographs; ONNX Runtime and this package give the same bytes"
                            : "ONNX Runtime and this package differ");
                    if (!same) {
                        throw new IllegalStateException("the bytes must be the same");
                    }
                    ImageIO.write(sheet(images, expected.images()), "png", Path.of(arguments[2]).toFile());
                }
            }
        }
    }

    /** The length of a row of mixed labels. */
    private static int numClasses(OrtSession session) throws OrtException {
        return (int) ((TensorInfo) session.getOutputInfo().get("mixed_labels").getInfo()).getShape()[1];
    }

    private static ByteBuffer bytes(OrtSession.Result result, String name) {
        return ((OnnxTensor) result.get(name).orElseThrow()).getByteBuffer();
    }

    /** The middle of a photograph: bytes of red, green and blue. */
    private static byte[] square(BufferedImage photograph) {
        int side = Math.min(photograph.getWidth(), photograph.getHeight());
        int x = (photograph.getWidth() - side) / 2;
        int y = (photograph.getHeight() - side) / 2;
        BufferedImage small = new BufferedImage(SIDE, SIDE, BufferedImage.TYPE_3BYTE_BGR);
        var graphics = small.createGraphics();
        graphics.setRenderingHint(RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
        graphics.drawImage(photograph, 0, 0, SIDE, SIDE, x, y, x + side, y + side, null);
        graphics.dispose();
        byte[] pixels = ((DataBufferByte) small.getRaster().getDataBuffer()).getData();
        for (int i = 0; i < pixels.length; i += 3) {
            byte blue = pixels[i];
            pixels[i] = pixels[i + 2];
            pixels[i + 2] = blue;
        }
        return pixels;
    }

    private static BufferedImage sheet(Tensor... rows) {
        int n = (int) rows[0].shape()[0];
        BufferedImage sheet = new BufferedImage(n * SIDE, rows.length * SIDE, BufferedImage.TYPE_INT_RGB);
        for (int row = 0; row < rows.length; row++) {
            ByteBuffer pixels = rows[row].asByteBuffer();
            for (int i = 0; i < n * SIDE * SIDE; i++) {
                int rgb = (pixels.get() & 0xff) << 16 | (pixels.get() & 0xff) << 8 | pixels.get() & 0xff;
                sheet.setRGB(i / SIDE / SIDE * SIDE + i % SIDE, row * SIDE + i / SIDE % SIDE, rgb);
            }
        }
        return sheet;
    }
}
