package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.net.URI;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the pages show compiles. */
class ReadmeTest {
    @TempDir
    private Path classes;

    @ParameterizedTest
    @ValueSource(strings = {"bindings/java/README.md", "README.md"})
    void everySnippetCompiles(String page) {
        List<String> snippets = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(Repository.text(page)).results()
                .map(match -> match.group(1)).toList();
        assertFalse(snippets.isEmpty());
        StringBuilder source = new StringBuilder("import ai.miamix.*;import ai.onnxruntime.*;import java.nio.*;import java.util.*;"
                + "abstract class Snippets { FloatBuffer images; LongBuffer labels; Miamix miamix; Batch batch;\n");
        for (int i = 0; i < snippets.size(); i++) {
            source.append("void snippet").append(i).append("() throws Exception {\n").append(snippets.get(i)).append("}\n");
        }
        assertCompiles(source.append("}\n").toString());
    }

    private void assertCompiles(String text) {
        JavaFileObject source = new SimpleJavaFileObject(URI.create("string:///Snippets.java"), JavaFileObject.Kind.SOURCE) {
            @Override
            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                return text;
            }
        };
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
        String path = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        compiler.getTask(null, null, found, List.of("-proc:none", "-classpath", path, "-d", classes.toString()), null,
                List.of(source)).call();
        assertEquals(List.of(), found.getDiagnostics());
    }
}
