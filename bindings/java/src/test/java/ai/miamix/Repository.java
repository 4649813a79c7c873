package ai.miamix;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import com.google.gson.reflect.TypeToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** What the tests compare with: the header and the vectors that every language meets. */
final class Repository {
    static final Path ROOT = Path.of(System.getProperty("repository.root")).normalize();

    private Repository() {}

    static String text(String path) {
        try {
            return Files.readString(ROOT.resolve(path));
        } catch (IOException cause) {
            throw new UncheckedIOException(cause);
        }
    }

    /** Numbers as they are written. */
    static final Gson GSON =
            new GsonBuilder().serializeNulls().setObjectToNumberStrategy(ToNumberPolicy.LAZILY_PARSED_NUMBER).create();

    /** The cases of one stage. */
    static List<Map<String, Object>> vectors(String stage) {
        List<Map<String, Object>> cases =
                GSON.fromJson(text("tests/vectors/" + stage + ".json"), new TypeToken<>() {});
        if (cases.isEmpty()) {
            throw new AssertionError(stage + " has no cases");
        }
        return cases;
    }
}
