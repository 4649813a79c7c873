package ai.miamix;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Another JVM, which mixes a batch: prints the path of its library and the hash of the pixels, and ends with its input. */
final class Child {
    private Child() {}

    public static void main(String[] arguments) throws IOException {
        String hash;
        try (Miamix miamix = Miamix.builder().build()) {
            Tensor images = Batches.images(DType.FLOAT32, new long[] {5, 3, 13, 17}, 0, Layout.NCHW, Batches.Memory.ARRAY);
            hash = Batches.hash(Batches.bytes(miamix.mix(Batch.of(images), 7, 3).images()));
        }
        System.out.println(Miamix.libraryPath() + " " + hash);
        System.in.read();
    }

    /** Starts a main class of the tests. */
    static ProcessBuilder command(Class<?> main, String... options) {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        command.add("-Djna.tmpdir=" + System.getProperty("jna.tmpdir"));
        command.addAll(List.of(options));
        String path = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        command.addAll(List.of("-cp", path, main.getName()));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        Map<String, String> environment = builder.environment();
        environment.remove("MIAMIX_LIBRARY");
        environment.remove("JAVA_TOOL_OPTIONS");
        return builder;
    }

    /** What a process prints from now to its end, which its closed input brings about. */
    static String end(Process process) throws IOException, InterruptedException {
        process.getOutputStream().close();
        String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return text + "exit " + process.waitFor();
    }
}
