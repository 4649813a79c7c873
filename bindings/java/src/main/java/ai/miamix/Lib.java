package ai.miamix;

import com.sun.jna.Native;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Pointer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/** The functions of {@code include/miamix.h}. Pointers and sizes are numbers: no object is made for a call. */
final class Lib {
    /** The interface that this class was written for. */
    static final int ABI_VERSION = 1;

    /** The loaded library. */
    static final Path PATH;

    static {
        if (Native.POINTER_SIZE != 8) {
            throw new UnsatisfiedLinkError("miamix needs a 64-bit JVM");
        }
        PATH = NativeLoader.locate();
        try {
            Native.register(Lib.class, NativeLibrary.getInstance(PATH.toString()));
        } catch (UnsatisfiedLinkError cause) {
            var error = new UnsatisfiedLinkError(PATH + " cannot be loaded (" + cause.getMessage() + "); -D"
                    + NativeLoader.LIBRARY_PROPERTY + " names another library, -D" + NativeLoader.CACHE_PROPERTY
                    + " another folder to unpack it to");
            error.initCause(cause);
            throw error;
        }
        int got = miamix_abi_version();
        if (got != ABI_VERSION) {
            throw new UnsatisfiedLinkError(PATH + " has the interface version " + got + ", and this jar needs "
                    + ABI_VERSION);
        }
    }

    private Lib() {}

    static native int miamix_abi_version();

    static native Pointer miamix_version();

    static native Pointer miamix_last_error_message();

    static native int miamix_config_init(long config, long structSize);

    static native int miamix_op_create(long config, long[] outOp);

    static native void miamix_op_free(long op);

    static native int miamix_plan_draw(long op, long[] shape, long seed, long firstSample, long[] outPlan);

    static native int miamix_plan_from_json(byte[] json, long length, long[] outPlan);

    static native int miamix_plan_to_json(long plan, byte @Nullable [] buffer, long capacity, long[] length);

    static native int miamix_plan_shape(long plan, long[] outShape);

    static native int miamix_plan_partner_index(long plan, long[] outPartnerIndex, long count);

    static native int miamix_plan_n_layers(long plan, long sample, int[] outNLayers);

    static native void miamix_plan_free(long plan);

    static native int miamix_apply(long op, long plan, long images, long partnerImages, long labels, long numClasses,
            long mixedImages, long mixedLabels, long labelWeight, long partnerIndex, long stream);

    static native int miamix_mix(long op, long seed, long firstSample, long images, long partnerImages, long labels,
            long numClasses, long mixedImages, long mixedLabels, long labelWeight, long partnerIndex, long stream);

    static native int miamix_apply_maps(long op, long plan, long maps, long partnerMaps, long mixedMaps, long stream);

    static native int miamix_masks(long op, long plan, long masks, long labelWeight, long stream);

    static native int miamix_backward(long op, long plan, long gradMixed, long gradImages, long gradPartnerImages,
            long stream);

    /** Turns a status into an exception, on the thread that called: the message is this call's. */
    static void check(int status) {
        if (status != 0) {
            throw Status.of(status).exception(text(miamix_last_error_message()));
        }
    }

    static String text(Pointer text) {
        return text.getString(0, StandardCharsets.UTF_8.name());
    }
}
