package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** What this jar says of parameters, statuses and layouts is what the C header says, which is made from the core. */
class ParametersTest {
    private static final String HEADER = Repository.text("include/miamix.h");

    private record Declared(String type, int count, String prose) {}

    /** The fields of {@code miamix_config} behind struct_size. */
    private static Map<String, Declared> declared() {
        String struct = HEADER.substring(HEADER.indexOf("typedef struct miamix_config {"),
                HEADER.indexOf("} miamix_config;"));
        Map<String, Declared> fields = new LinkedHashMap<>();
        for (MatchResult match : all("/\\*\\*(.*?)\\*/\\s+(\\w+) (\\w+)(?:\\[(\\d)])?;", struct)) {
            int count = match.group(4) == null ? 1 : Integer.parseInt(match.group(4));
            fields.put(match.group(3), new Declared(match.group(2), count, prose(match.group(1))));
        }
        assertEquals("uint64_t", fields.remove("struct_size").type);
        return fields;
    }

    private static String prose(String comment) {
        return comment.replaceAll("(?m)^\\s*\\*", "").replaceAll("\\s+", " ").trim();
    }

    private static List<MatchResult> all(String pattern, String text) {
        return Pattern.compile(pattern, Pattern.DOTALL).matcher(text).results().toList();
    }

    @Test
    void fieldsAreThoseOfTheHeader() {
        Map<String, Declared> declared = declared();
        assertEquals(List.copyOf(declared.keySet()), List.copyOf(Config.FIELDS.keySet()));
        int offset = 8;
        for (String name : declared.keySet()) {
            Config.Field field = Config.FIELDS.get(name);
            assertEquals(declared.get(name).type.equals("float"), field.real(), name);
            assertEquals(declared.get(name).count, field.count(), name);
            assertEquals(offset, field.offset(), name);
            assertEquals(declared.get(name).prose.startsWith("A miamix_"), field.names().isEnum(), name);
            offset += 4 * field.count();
        }
        assertEquals(Config.SIZE, offset);
    }

    @Test
    void defaultsAreThoseOfTheCoreAndOfTheHeader() {
        try (Miamix miamix = Miamix.builder().build()) {
            declared().forEach((name, field) -> {
                List<String> expected = Arrays.asList(
                        field.prose.replaceFirst(".*Default (.*)\\.", "$1").replace("pi / 4", "0.7853982").split(", "));
                if (name.equals("n_threads")) {
                    assertEquals(List.of("0"), expected);
                    return;
                }
                Object value = miamix.parameters().get(name);
                List<?> values = value instanceof List<?> list ? list : value instanceof Map<?, ?> map
                        ? new ArrayList<>(map.values()) : Arrays.asList(value);
                for (int i = 0; i < values.size(); i++) {
                    if (values.get(i) instanceof Enum<?> constant) {
                        assertEquals("MIAMIX_" + name.toUpperCase(Locale.ROOT) + "_" + constant, expected.get(i));
                    } else {
                        assertEquals(Float.parseFloat(expected.get(i)), ((Number) values.get(i)).floatValue(), name);
                    }
                }
                assertEquals(expected.size(), values.size(), name);
            });
        }
    }

    @Test
    void javadocSaysOfRangesAndDefaultsWhatTheHeaderSays() {
        String source = Repository.text("bindings/java/src/main/java/ai/miamix/Miamix.java");
        Map<String, String> docs = new LinkedHashMap<>();
        for (MatchResult match : all("/\\*\\*((?:(?!\\*/).)*?)\\*/\\s+public Builder (\\w+)\\(", source)) {
            docs.put(match.group(2), prose(match.group(1)).replaceFirst(" @param.*", ""));
        }
        assertEquals(List.of("numClasses", "layout"), List.copyOf(docs.keySet()).subList(0, 2));
        assertEquals(declared().size() + 2, docs.size());
        declared().forEach((name, field) -> {
            String expected = field.prose.replace(", indexed by miamix_method", "");
            if (Config.FIELDS.get(name).names().isEnum()) {
                Class<?> names = Config.FIELDS.get(name).names();
                String summary = all("/\\*\\*([^/]*?)\\*/\\s*typedef enum miamix_" + name + " ", HEADER).get(0).group(1);
                expected = prose(summary) + " " + expected.replaceFirst(".*Default MIAMIX_" + name.toUpperCase(Locale.ROOT)
                        + "_(\\w+)\\.", "Default {@link " + names.getSimpleName() + "#$1}.");
            }
            assertEquals(expected, docs.get(camel(name)));
        });
    }

    private static String camel(String name) {
        return Pattern.compile("_(\\w)").matcher(name).replaceAll(match -> match.group(1).toUpperCase(Locale.ROOT));
    }

    @Test
    void constantsAreThoseOfTheHeader() {
        assertConstants("method", Method.values());
        assertConstants("status", Status.values());
        for (Config.Field field : Config.FIELDS.values()) {
            if (field.names().isEnum()) {
                String name = field.names().getSimpleName().replaceAll("(?<=.)(?=[A-Z])", "_").toLowerCase(Locale.ROOT);
                assertConstants(name, field.names().getEnumConstants());
            }
        }
        Map<String, Integer> codes = new LinkedHashMap<>();
        for (MatchResult match : all("MIAMIX_DTYPE_CODE_(\\w+) = (\\d+),", HEADER)) {
            codes.put(match.group(1), Integer.parseInt(match.group(2)));
        }
        for (DType dtype : DType.values()) {
            String kind = dtype.name().replaceAll("\\d", "");
            assertEquals(codes.get(kind) | 8 * dtype.bytes() << 8 | 1 << 16, dtype.packed, dtype.name());
            assertTrue(kind.equals("BOOL") || dtype.name().endsWith(String.valueOf(8 * dtype.bytes())));
        }
        assertTrue(HEADER.contains("#define MIAMIX_ABI_VERSION " + Lib.ABI_VERSION + "\n"));
    }

    private static void assertConstants(String name, Enum<?>[] constants) {
        List<String> declared = new ArrayList<>();
        for (MatchResult match : all("MIAMIX_" + name.toUpperCase(Locale.ROOT) + "_([A-Z_]+) = (\\d+),", HEADER)) {
            declared.add(match.group(1) + " " + match.group(2));
        }
        assertFalse(declared.isEmpty(), name);
        assertEquals(declared, Arrays.stream(constants).map(c -> c.name() + " " + c.ordinal()).toList());
    }

    @Test
    void everyParameterComesBack() {
        Map<Method, Float> weights = new java.util.EnumMap<>(Map.of(Method.MIXUP, 0.5f, Method.CUTMIX, 1f, Method.FMIX,
                2f, Method.GRIDMIX, 3f, Method.AGMIX, 4f, Method.GMIX, 0.25f));
        Miamix.Builder builder = Miamix.builder().alpha(0.3f).kMin(2).kMax(5).methodWeights(weights).pApply(0.9f)
                .pSelf(0.2f).pAug(0.35f).pSmooth(0.45f).merge(Merge.SUM).labelWeight(LabelWeight.DRAWN)
                .lambdaReading(LambdaReading.KEEP).gaussianSigma(GaussianSigma.AREA).pairing(Pairing.UNIFORM)
                .cutmixBox(CutmixBox.INSIDE).gridRange(3, 9).decayPower(2.5f).rotateMaxRad(0.5f).shearMax(0.2f)
                .smoothRangePx(5, 9).pFlip(0.5f).padPx(4).labelSmoothing(0.1f).nThreads(3);
        List<Object> expected = List.of(0.3f, 2, 5, weights, 0.9f, 0.2f, 0.35f, 0.45f, Merge.SUM, LabelWeight.DRAWN,
                LambdaReading.KEEP, GaussianSigma.AREA, Pairing.UNIFORM, CutmixBox.INSIDE, List.of(3, 9), 2.5f, 0.5f,
                0.2f, List.of(5, 9), 0.5f, 4, 0.1f);
        try (Miamix miamix = builder.build(); Miamix defaults = Miamix.builder().build()) {
            assertEquals(expected, List.copyOf(miamix.parameters().values()));
            defaults.parameters().forEach((name, value) -> assertNotEquals(value, miamix.parameters().get(name), name));
            // A builder that goes on changes no operator.
            builder.alpha(9);
            assertEquals(0.3f, miamix.parameters().get("alpha"));
        }
    }

    @Test
    void versionsAreTheWorkspaces() {
        String cargo = Repository.text("Cargo.toml");
        String version = all("\\[workspace\\.package]\\s+version = \"([^\"]+)\"", cargo).get(0).group(1);
        assertEquals(version, System.getProperty("project.version"));
        assertEquals(version, Miamix.version());
        for (String example : List.of("train", "onnxruntime")) {
            assertTrue(Repository.text("examples/java/" + example + "/pom.xml")
                    .contains("<miamix.version>" + version + "</miamix.version>"));
        }
    }
}
