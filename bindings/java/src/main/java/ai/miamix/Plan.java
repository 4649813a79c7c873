package ai.miamix;

import java.lang.ref.Cleaner;
import java.nio.charset.StandardCharsets;

/**
 * Every random decision of a batch, as plain data: drawn by {@link Miamix#draw}, stored as JSON that every language
 * reads, and applied any number of times by {@link Miamix#apply(Plan, Batch)}.
 *
 * <p>Threads: a plan may be shared by any number of threads. {@link #close()} releases its memory once no call uses it;
 * a plan that is not closed is released when it is collected.
 */
public final class Plan implements AutoCloseable {
    private final Handle handle;
    private final Cleaner.Cleanable cleanable;
    private final long[] shape = new long[3];

    Plan(long address) {
        handle = new Handle("plan", address, Lib::miamix_plan_free);
        cleanable = handle.ownedBy(this);
        Lib.check(Lib.miamix_plan_shape(address, shape));
    }

    /**
     * Reads a plan that was stored, or written by hand.
     *
     * @param json the text of {@link #toJson}
     * @return the plan, to be closed
     * @throws MiamixArgumentException with {@link Status#PLAN} and the sample and the layer that are malformed
     */
    public static Plan fromJson(String json) {
        byte[] text = json.getBytes(StandardCharsets.UTF_8);
        long[] out = new long[1];
        // An empty text has no address in C.
        Lib.check(Lib.miamix_plan_from_json(text.length == 0 ? new byte[1] : text, text.length, out));
        return new Plan(out[0]);
    }

    /**
     * Writes the plan.
     *
     * @return JSON, which every language reads
     * @throws IllegalStateException if the plan is closed
     */
    public String toJson() {
        long address = handle.acquire();
        try {
            long[] length = new long[1];
            Lib.check(Lib.miamix_plan_to_json(address, null, 0, length));
            byte[] text = new byte[Math.toIntExact(length[0] + 1)];
            Lib.check(Lib.miamix_plan_to_json(address, text, text.length, length));
            return new String(text, 0, text.length - 1, StandardCharsets.UTF_8);
        } finally {
            handle.release();
        }
    }

    /** {@return N, the number of samples} */
    public long samples() {
        return shape[0];
    }

    /** {@return H, pixels} */
    public long height() {
        return shape[1];
    }

    /** {@return W, pixels} */
    public long width() {
        return shape[2];
    }

    /**
     * Which sample of the batch each sample is mixed with.
     *
     * @return N numbers; a sample's own index where it is mixed with itself or not at all
     * @throws IllegalStateException if the plan is closed
     */
    public long[] partnerIndex() {
        long address = handle.acquire();
        try {
            long[] index = new long[Math.toIntExact(samples())];
            if (index.length > 0) {
                Lib.check(Lib.miamix_plan_partner_index(address, index, index.length));
            }
            return index;
        } finally {
            handle.release();
        }
    }

    /**
     * How many layers the mask of a sample has.
     *
     * @param sample index in the batch
     * @return 0 to 8; 0 where the sample is not mixed
     * @throws MiamixArgumentException if there is no such sample
     * @throws IllegalStateException if the plan is closed
     */
    public int layers(long sample) {
        if (sample < 0) {
            throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, "sample", "must be at least 0", sample);
        }
        long address = handle.acquire();
        try {
            int[] layers = new int[1];
            Lib.check(Lib.miamix_plan_n_layers(address, sample, layers));
            return layers[0];
        } finally {
            handle.release();
        }
    }

    /** Releases the plan once no call uses it. Closing it again does nothing. */
    @Override
    public void close() {
        cleanable.clean();
    }

    /** {@return the size of the plan} */
    @Override
    public String toString() {
        return "Plan of " + shape[0] + " samples, " + shape[1] + " x " + shape[2] + " px";
    }

    Handle handle() {
        return handle;
    }
}
