package ai.miamix;

import com.sun.jna.Function;
import com.sun.jna.Platform;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

/**
 * Finds the native library, which JNA and ONNX Runtime load by its path: a file of the user's own, or the one in the
 * jar, which is unpacked once for each content.
 *
 * <p>What is loaded runs as the user, so nobody else may be able to put a file in its place. A folder is used only if
 * it is the user's, nobody else can write to it, and nobody else can rename it or a folder above it; it is then a file
 * of the user's with the very bytes of the jar that is loaded. Links above a folder are followed once, and the path
 * without them is what is checked and used. Files get their names by one renaming: processes that start at once, or are
 * ended in the middle, leave each other whole files.
 */
final class NativeLoader {
    static final String LIBRARY_PROPERTY = "ai.miamix.library";
    static final String CACHE_PROPERTY = "ai.miamix.cache";
    private static final String LIBRARY_VARIABLE = "MIAMIX_LIBRARY";

    private static final int GROUP_WRITE = 0020;
    private static final int OTHERS_WRITE = 0002;
    /** Where only a file's owner renames it, as in /tmp. */
    private static final int STICKY = 01000;

    private NativeLoader() {}

    /**
     * {@return the absolute path of the library, unpacked if need be}
     *
     * @throws UnsatisfiedLinkError if there is none for this machine, or nowhere to put it
     */
    static Path locate() {
        String named = System.getProperty(LIBRARY_PROPERTY);
        if (named == null || named.isEmpty()) {
            named = System.getenv(LIBRARY_VARIABLE);
        }
        if (named != null && !named.isEmpty()) {
            return Path.of(named).toAbsolutePath();
        }
        return packed(Platform.RESOURCE_PREFIX);
    }

    /** {@return the library in the jar, unpacked} */
    static Path packed(String platform) {
        String file = System.mapLibraryName("miamix");
        String resource = "native/" + platform + "/" + file;
        try (InputStream packed = NativeLoader.class.getResourceAsStream(resource)) {
            if (packed == null) {
                throw new UnsatisfiedLinkError("the miamix jar has no library for " + platform + "; -D"
                        + LIBRARY_PROPERTY + " names one of yours");
            }
            return unpack(packed.readAllBytes(), file);
        } catch (IOException cause) {
            var error = new UnsatisfiedLinkError("the library in the miamix jar cannot be unpacked ("
                    + cause.getMessage() + "); -D" + CACHE_PROPERTY + " names a folder for it, -D" + LIBRARY_PROPERTY
                    + " a library of yours");
            error.initCause(cause);
            throw error;
        }
    }

    private static Path unpack(byte[] library, String file) throws IOException {
        String named = System.getProperty(CACHE_PROPERTY);
        if (named != null && !named.isEmpty()) {
            return unpack(library, file, Path.of(named).toAbsolutePath());
        }
        List<IOException> refusals = new ArrayList<>();
        for (Path folder : folders()) {
            try {
                return unpack(library, file, folder);
            } catch (IOException refusal) {
                refusals.add(refusal);
            }
        }
        // No folder of this user's that would last: one for this process alone, by a name that nobody can foresee.
        try {
            Path unpacked = unpack(library, file, Files.createTempDirectory("miamix-").toAbsolutePath());
            unpacked.getParent().toFile().deleteOnExit();
            unpacked.toFile().deleteOnExit();
            return unpacked;
        } catch (IOException refusal) {
            refusals.forEach(refusal::addSuppressed);
            throw refusal;
        }
    }

    /** Folders for the library, the best one first. */
    private static List<Path> folders() {
        List<Path> folders = new ArrayList<>();
        String cache = System.getenv("XDG_CACHE_HOME");
        String home = System.getProperty("user.home");
        if (cache != null && Path.of(cache).isAbsolute()) {
            folders.add(Path.of(cache, "miamix"));
        } else if (home != null && Path.of(home).isAbsolute() && Files.isDirectory(Path.of(home))) {
            folders.add(Path.of(home, ".cache", "miamix"));
        }
        folders.add(Path.of(System.getProperty("java.io.tmpdir"), "miamix-" + user()).toAbsolutePath());
        return folders;
    }

    /** Puts the library into a folder, unless it is there; the path given back has no link in it. */
    static Path unpack(byte[] library, String file, Path named) throws IOException {
        Path folder = makeSafe(named);
        int dot = file.lastIndexOf('.');
        Path goal = folder.resolve(file.substring(0, dot) + "-" + hash(library) + file.substring(dot));
        if (isWhole(goal, library)) {
            return goal;
        }
        // Created for this user alone.
        Path partial = Files.createTempFile(folder, ".miamix-", ".partial");
        try {
            Files.write(partial, library);
            Files.move(partial, goal, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(partial);
        }
        if (!isWhole(goal, library)) {
            throw new IOException(goal + " is not what was written");
        }
        return goal;
    }

    /** Makes a folder for this user alone, or checks that it is one; its path, with no link in it. */
    private static Path makeSafe(Path named) throws IOException {
        Path above = named.getParent();
        if (above == null) {
            throw new IOException(named + " is no folder to unpack to");
        }
        var ownerOnly = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
        if (!Files.exists(above)) {
            Files.createDirectories(above, ownerOnly);
        }
        // A link can lead elsewhere after the check: from here on there is none.
        above = above.toRealPath();
        Path folder = above.resolve(named.getFileName());
        if (!Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
            try {
                Files.createDirectory(folder, ownerOnly);
            } catch (FileAlreadyExistsException raced) {
                // Another process was first; who it was, is checked now.
            }
        }
        Entry entry = Entry.of(folder);
        if (!entry.directory || entry.uid != user() || (entry.mode & (GROUP_WRITE | OTHERS_WRITE)) != 0) {
            throw new IOException(folder + " must be a folder of this user's that nobody else can write to");
        }
        for (; above != null; above = above.getParent()) {
            entry = Entry.of(above);
            boolean trusted = entry.uid == user() || entry.uid == 0;
            boolean writable = (entry.mode & (GROUP_WRITE | OTHERS_WRITE)) != 0 && (entry.mode & STICKY) == 0;
            if (!trusted || writable) {
                throw new IOException(folder + " can be replaced by those who can write to " + above);
            }
        }
        return folder;
    }

    private static boolean isWhole(Path file, byte[] library) throws IOException {
        Entry entry;
        try {
            entry = Entry.of(file);
        } catch (NoSuchFileException none) {
            return false;
        }
        return entry.regular && entry.uid == user() && (entry.mode & (GROUP_WRITE | OTHERS_WRITE)) == 0
                && entry.size == library.length && MessageDigest.isEqual(Files.readAllBytes(file), library);
    }

    /** What is at a path itself, not at the end of a link. */
    private record Entry(boolean directory, boolean regular, int uid, int mode, long size) {
        static Entry of(Path path) throws IOException {
            Map<String, Object> attributes;
            try {
                attributes = Files.readAttributes(path, "unix:uid,mode,isDirectory,isRegularFile,size",
                        LinkOption.NOFOLLOW_LINKS);
            } catch (UnsupportedOperationException cause) {
                throw new IOException("owners and permissions cannot be read here", cause);
            }
            return new Entry((Boolean) attributes.get("isDirectory"), (Boolean) attributes.get("isRegularFile"),
                    (Integer) attributes.get("uid"), (Integer) attributes.get("mode"), (Long) attributes.get("size"));
        }
    }

    private static int user() {
        return Function.getFunction(Platform.C_LIBRARY_NAME, "geteuid").invokeInt(new Object[0]);
    }

    private static String hash(byte[] library) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(library));
        } catch (NoSuchAlgorithmException cause) {
            throw new AssertionError("every Java has SHA-256", cause);
        }
    }
}
