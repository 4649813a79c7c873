package ai.miamix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where the library is unpacked to, and that nobody else can put another one there. */
class NativeLoaderTest {
    private static final byte[] LIBRARY = "a library".getBytes(StandardCharsets.UTF_8);
    private static final String FILE = "libmiamix.so";
    /** Of the batch that {@link Child} mixes, by Rust. */
    private static final String HASH = (String) Repository.vectors("faces").get(0).get("images");

    @TempDir
    private Path root;

    @BeforeEach
    void onlyThisUserWritesToTheRoot() throws IOException {
        // Libraries are unpacked to paths without links.
        root = root.toRealPath();
        permit(root, "rwx------");
    }

    private static void permit(Path path, String permissions) throws IOException {
        Files.setPosixFilePermissions(path, PosixFilePermissions.fromString(permissions));
    }

    private static List<Path> list(Path folder) throws IOException {
        try (Stream<Path> paths = Files.list(folder)) {
            return paths.toList();
        }
    }

    @Test
    void aLibraryIsUnpackedOnceForEachContent() throws IOException {
        Path folder = root.resolve("above/cache");
        Path first = NativeLoader.unpack(LIBRARY, FILE, folder);
        Object key = Files.readAttributes(first, java.nio.file.attribute.BasicFileAttributes.class).fileKey();
        assertArrayEquals(LIBRARY, Files.readAllBytes(first));
        assertEquals(first, NativeLoader.unpack(LIBRARY, FILE, folder));
        assertEquals(key, Files.readAttributes(first, java.nio.file.attribute.BasicFileAttributes.class).fileKey());
        Path second = NativeLoader.unpack("another".getBytes(StandardCharsets.UTF_8), FILE, folder);
        assertNotEquals(first, second);
        assertEquals(Set.of(first, second), Set.copyOf(list(folder)));
        assertTrue(first.getFileName().toString().matches("libmiamix-[0-9a-f]{64}\\.so"));
        for (Path made : List.of(folder, folder.getParent())) {
            assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(made)));
        }
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(first)));
    }

    @Test
    void whatIsNotTheLibraryIsReplaced() throws IOException {
        Path folder = root.resolve("cache");
        Path goal = NativeLoader.unpack(LIBRARY, FILE, folder);
        Path elsewhere = Files.write(root.resolve("elsewhere"), LIBRARY);
        List<Attack> attacks = List.of(
                () -> Files.write(goal, "a librarX".getBytes(StandardCharsets.UTF_8)),
                () -> Files.write(goal, new byte[0]),
                () -> permit(goal, "rw-rw----"),
                () -> permit(goal, "rw-----w-"),
                () -> {
                    Files.delete(goal);
                    Files.createSymbolicLink(goal, elsewhere);
                });
        for (Attack attack : attacks) {
            attack.run();
            assertEquals(goal, NativeLoader.unpack(LIBRARY, FILE, folder));
            assertTrue(Files.isRegularFile(goal, LinkOption.NOFOLLOW_LINKS));
            assertArrayEquals(LIBRARY, Files.readAllBytes(goal));
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(goal)));
        }
        assertEquals(List.of(goal), list(folder));
    }

    @Test
    void aFolderOfOthersIsRefused() throws IOException {
        Path folder = root.resolve("cache");
        Files.createDirectory(folder);
        for (String permissions : List.of("rwxrwxrwx", "rwxrwx---", "rwx----w-")) {
            permit(folder, permissions);
            assertRefused(folder, "must be a folder of this user's");
        }
        Files.delete(folder);
        Path own = Files.createDirectory(root.resolve("own"), PosixFilePermissions.asFileAttribute(
                PosixFilePermissions.fromString("rwx------")));
        Files.createSymbolicLink(folder, own);
        assertRefused(folder, "must be a folder of this user's");
        Files.delete(folder);
        Files.createSymbolicLink(folder, root.resolve("nowhere"));
        assertRefused(folder, "must be a folder of this user's");
        Files.delete(folder);
        Files.createFile(folder);
        assertRefused(folder, "must be a folder of this user's");
        assertEquals(List.of(), list(own));
        assertFalse(Files.exists(root.resolve("nowhere")));
    }

    @Test
    void aFolderThatOthersCanRenameIsRefused() throws IOException {
        Path open = Files.createDirectory(root.resolve("open"));
        Path between = Files.createDirectory(open.resolve("between"));
        permit(between, "rwxr-xr-x");
        permit(open, "rwxrwxrwx");
        assertRefused(between.resolve("cache"), "can be replaced by those who can write to");
        // As /tmp: only the owner of what is in there renames it.
        Files.setAttribute(open, "unix:mode", 01777);
        assertArrayEquals(LIBRARY, Files.readAllBytes(NativeLoader.unpack(LIBRARY, FILE, between.resolve("cache"))));
        assertArrayEquals(LIBRARY, Files.readAllBytes(NativeLoader.unpack(LIBRARY, FILE, open.resolve("cache"))));
    }

    /** A link in the middle of the path is followed once: who can change it gains nothing. */
    @Test
    void aLinkAboveTheFolderIsNotUsedAgain() throws IOException, InterruptedException {
        Path open = Files.createDirectory(root.resolve("open"));
        permit(open, "rwxrwxrwx");
        Path own = Files.createDirectory(root.resolve("own"));
        Path theirs = Files.createDirectories(root.resolve("theirs/a/cache"));
        Path link = Files.createSymbolicLink(open.resolve("link"), own);
        Files.createDirectory(own.resolve("a"));
        Path unpacked = NativeLoader.unpack(LIBRARY, FILE, link.resolve("a/cache"));
        assertEquals(own.resolve("a/cache"), unpacked.getParent());
        // As ONNX Runtime does, later.
        String library = Child.end(Child.command(Child.class, "-Dai.miamix.cache=" + link.resolve("a/child")).start());
        assertTrue(library.startsWith(own.resolve("a/child") + "/libmiamix-"), library);

        Files.delete(link);
        Files.createSymbolicLink(link, root.resolve("theirs"));
        Files.write(theirs.resolve(unpacked.getFileName()), "another".getBytes(StandardCharsets.UTF_8));
        assertArrayEquals(LIBRARY, Files.readAllBytes(unpacked));

        // What the link leads to is what is checked.
        permit(theirs.getParent(), "rwxrwxrwx");
        assertRefused(link.resolve("a/cache"), "can be replaced by those who can write to " + theirs.getParent());
        Files.delete(link);
        Files.createSymbolicLink(link, root.resolve("nowhere"));
        assertThrows(IOException.class, () -> NativeLoader.unpack(LIBRARY, FILE, link.resolve("a/cache")));
        assertFalse(Files.exists(root.resolve("nowhere")));
    }

    @Test
    void aFolderOfAnotherUserIsRefused() throws IOException {
        Path folder = Files.createDirectory(root.resolve("cache"));
        permit(folder, "rwxr-xr-x");
        try {
            Files.setAttribute(folder, "unix:uid", 65534);
        } catch (IOException cause) {
            Assumptions.abort("NOT RUN: only root can give a folder away");
        }
        assertRefused(folder, "must be a folder of this user's");
        assertRefused(folder.resolve("cache"), "can be replaced by those who can write to");
    }

    private interface Attack {
        void run() throws IOException;
    }

    private static void assertRefused(Path folder, String message) {
        IOException error = assertThrows(IOException.class, () -> NativeLoader.unpack(LIBRARY, FILE, folder));
        assertTrue(error.getMessage().contains(message), error.getMessage());
    }

    @Test
    void jvmsThatStartAtOnceShareOneWholeFile() throws IOException, InterruptedException {
        Path cache = root.resolve("cache");
        List<Process> processes = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            processes.add(Child.command(Child.class, "-Dai.miamix.cache=" + cache, "-Xshare:auto").start());
        }
        List<String> printed = new ArrayList<>();
        for (Process process : processes) {
            printed.add(Child.end(process));
        }
        List<Path> unpacked = list(cache);
        assertEquals(1, unpacked.size(), unpacked.toString());
        for (String text : printed) {
            assertEquals(unpacked.get(0) + " " + HASH + "\nexit 0", text);
        }
    }

    @Test
    void aHostileTemporaryFolderIsPassedBy() throws IOException, InterruptedException {
        Path temporary = Files.createDirectory(root.resolve("tmp"));
        Files.setAttribute(temporary, "unix:mode", 01777);
        Path trap = Files.createDirectory(root.resolve("trap"));
        Files.createSymbolicLink(temporary.resolve("miamix-" + Files.getAttribute(root, "unix:uid")), trap);
        ProcessBuilder builder = Child.command(Child.class, "-Djava.io.tmpdir=" + temporary, "-Duser.home=" + root.resolve("no"));
        builder.environment().remove("XDG_CACHE_HOME");
        Process process = builder.start();
        BufferedReader reader = process.inputReader(StandardCharsets.UTF_8);
        String[] printed = reader.readLine().split(" ");
        Path library = Path.of(printed[0]);
        assertEquals(HASH, printed[1]);
        // A folder for the process alone, which is there as long as it is.
        assertTrue(Files.isRegularFile(library) && library.startsWith(temporary));
        assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(library.getParent())));
        process.getOutputStream().close();
        assertEquals(0, process.waitFor());
        assertFalse(Files.exists(library.getParent()));
        assertEquals(List.of(), list(trap));
    }

    @Test
    void withoutAttackersTheCacheOfTheUserServes() throws IOException, InterruptedException {
        ProcessBuilder builder = Child.command(Child.class, "-Duser.home=" + root);
        builder.environment().remove("XDG_CACHE_HOME");
        String printed = Child.end(builder.start());
        Path folder = root.resolve(".cache/miamix");
        assertEquals(list(folder).get(0) + " " + HASH + "\nexit 0", printed);
        builder.environment().put("XDG_CACHE_HOME", root.resolve("xdg").toString());
        printed = Child.end(builder.start());
        assertEquals(list(root.resolve("xdg/miamix")).get(0) + " " + HASH + "\nexit 0", printed);
    }

    @Test
    void aLibraryOfYourOwnIsNamed() throws IOException, InterruptedException {
        String own = Files.copy(Miamix.libraryPath(), root.resolve("own.so")).toString();
        assertEquals(own + " " + HASH + "\nexit 0",
                Child.end(Child.command(Child.class, "-Dai.miamix.library=" + own).start()));
        ProcessBuilder builder = Child.command(Child.class);
        builder.environment().put("MIAMIX_LIBRARY", own);
        assertEquals(own + " " + HASH + "\nexit 0", Child.end(builder.start()));
        String none = Child.end(Child.command(Child.class, "-Dai.miamix.library=" + root.resolve("none.so")).start());
        assertTrue(none.contains("UnsatisfiedLinkError: " + root.resolve("none.so") + " cannot be loaded"), none);
        assertTrue(none.endsWith("exit 1"), none);
    }

    @Test
    void theJarSaysWhereItHasNoLibrary() {
        UnsatisfiedLinkError error = assertThrows(UnsatisfiedLinkError.class, () -> NativeLoader.packed("plan9-vax"));
        assertEquals("the miamix jar has no library for plan9-vax; -Dai.miamix.library names one of yours",
                error.getMessage());
    }

    @Test
    void whereNothingIsSafeTheErrorSaysWhatToDo() throws IOException, InterruptedException {
        Path open = Files.createDirectory(root.resolve("open"));
        permit(open, "rwxrwxrwx");
        String printed = Child.end(Child.command(Child.class, "-Dai.miamix.cache=" + open.resolve("cache")).start());
        assertTrue(printed.contains("cannot be unpacked (" + open.resolve("cache") + " can be replaced by those who can "
                + "write to " + open + "); -Dai.miamix.cache names a folder for it"), printed);
    }
}
