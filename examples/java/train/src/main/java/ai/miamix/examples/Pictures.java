package ai.miamix.examples;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import javax.imageio.ImageIO;

/**
 * Labelled pictures, of which random square crops are taken.
 *
 * @param pictures what crops are taken from
 * @param names the classes
 * @param least the shortest side of a training crop, as a share of the picture's shorter side
 * @param most the longest one
 */
record Pictures(List<Picture> pictures, List<String> names, double least, double most) {
    private static final Set<String> KINDS = Set.of("png", "jpg", "jpeg", "bmp");

    /** A picture's pixels from {@code left} to {@code right}, and its class. */
    record Picture(int[] rgb, int width, int height, int left, int right, int label) {}

    /** What is trained on, and what is tested on. */
    record Split(Pictures train, Pictures test) {}

    /**
     * Reads {@code folder/train/CLASS/*} and {@code folder/test/CLASS/*}; or else {@code folder/CLASS/*}, or pictures
     * that are each a class: then training crops come from the left three fifths of a picture and test crops from the
     * right third, so that no test pixel was trained on.
     */
    static Split read(Path folder) throws IOException {
        if (Files.isDirectory(folder.resolve("train")) && Files.isDirectory(folder.resolve("test"))) {
            return new Split(read(folder.resolve("train"), 0, 1, 0.75, 1), read(folder.resolve("test"), 0, 1, 1, 1));
        }
        return new Split(read(folder, 0, 0.6, 0.3, 0.7), read(folder, 0.66, 1, 0.3, 0.7));
    }

    private static Pictures read(Path folder, double left, double right, double least, double most) throws IOException {
        List<Path> classes = list(folder).stream().filter(Files::isDirectory).toList();
        if (classes.isEmpty()) {
            classes = list(folder).stream().filter(Pictures::isPicture).toList();
        }
        List<Picture> pictures = new ArrayList<>();
        for (int label = 0; label < classes.size(); label++) {
            Path path = classes.get(label);
            for (Path file : Files.isDirectory(path) ? list(path) : List.of(path)) {
                if (isPicture(file)) {
                    BufferedImage image = ImageIO.read(file.toFile());
                    int width = image.getWidth();
                    int height = image.getHeight();
                    int[] rgb = image.getRGB(0, 0, width, height, null, 0, width);
                    pictures.add(new Picture(rgb, width, height, (int) (left * width), (int) (right * width), label));
                }
            }
        }
        return new Pictures(pictures, classes.stream().map(path -> path.getFileName().toString()).toList(), least, most);
    }

    private static List<Path> list(Path folder) throws IOException {
        try (Stream<Path> paths = Files.list(folder)) {
            return paths.sorted().toList();
        }
    }

    private static boolean isPicture(Path file) {
        String name = file.getFileName().toString().toLowerCase(Locale.ROOT);
        return KINDS.contains(name.substring(name.lastIndexOf('.') + 1));
    }

    /** Puts a random crop, half of the time mirrored, into {@code [3, size, size]} of floats in [-1, 1]. */
    void crop(Picture picture, RandomGenerator random, int size, FloatBuffer out) {
        int room = Math.min(picture.right - picture.left, picture.height);
        double side = room * (least + (most - least) * random.nextDouble());
        double x0 = picture.left + (picture.right - picture.left - side) * random.nextDouble();
        double y0 = (picture.height - side) * random.nextDouble();
        boolean mirrored = random.nextBoolean();
        for (int shift = 16; shift >= 0; shift -= 8) {
            for (int y = 0; y < size; y++) {
                for (int x = 0; x < size; x++) {
                    double u = (mirrored ? size - x - 0.5 : x + 0.5) * side / size;
                    double v = (y + 0.5) * side / size;
                    out.put((float) (sample(picture, x0 + u - 0.5, y0 + v - 0.5, shift) / 127.5 - 1));
                }
            }
        }
    }

    /** One channel between the pixel centres around a point, within the picture's part. */
    private static double sample(Picture picture, double x, double y, int shift) {
        double inX = Math.min(Math.max(x, picture.left), picture.right - 1);
        double inY = Math.min(Math.max(y, 0), picture.height - 1);
        int left = (int) inX;
        int top = (int) inY;
        int right = Math.min(left + 1, picture.right - 1);
        int bottom = Math.min(top + 1, picture.height - 1);
        double above = mix(picture, left, right, top, inX - left, shift);
        double below = mix(picture, left, right, bottom, inX - left, shift);
        return above + (below - above) * (inY - top);
    }

    private static double mix(Picture picture, int left, int right, int y, double share, int shift) {
        int a = picture.rgb[y * picture.width + left] >> shift & 0xff;
        int b = picture.rgb[y * picture.width + right] >> shift & 0xff;
        return a + (b - a) * share;
    }
}
