package ai.miamix;

import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/** One call on tensors: their descriptions in memory that the library reads, and the copies of arrays. */
final class Call implements AutoCloseable {
    /** Bytes in copies of arrays: what a leak would raise. */
    static final AtomicLong COPIED_BYTES = new AtomicLong();

    /** Most tensors of a call. */
    private static final int MOST = 7;
    /** Most axes: [N, T, C, H, W]. */
    private static final int AXES = 5;
    /** {@code sizeof(miamix_tensor)}; its shape and its strides follow. */
    private static final int TENSOR = 48;

    private static final int SLOT = TENSOR + 2 * 8 * AXES;
    private static final int DEVICE_CPU = 1;

    /** Memory for the descriptions, used again: as much as there were calls at once. No thread owns any. */
    private static final ConcurrentLinkedQueue<Frame> FRAMES = new ConcurrentLinkedQueue<>();

    private record Frame(ByteBuffer memory, long address) {
        static Frame make() {
            ByteBuffer memory = ByteBuffer.allocateDirect(MOST * SLOT).order(ByteOrder.nativeOrder());
            return new Frame(memory, Pointer.nativeValue(Native.getDirectBufferPointer(memory)));
        }
    }

    private final Layout layout;
    private final @Nullable Plan plan;
    /** The first images; the others have their shape. */
    private @Nullable Tensor first;

    private final Frame frame;
    private final @Nullable Tensor[] tensors = new Tensor[MOST];
    private final String[] names = new String[MOST];
    /** The copy of an array, or 0. */
    private final long[] copies = new long[MOST];

    private final boolean[] written = new boolean[MOST];
    private int n;

    /** A call under a plan, or under one that is drawn on the way. */
    Call(Layout layout, @Nullable Plan plan) {
        this.layout = layout;
        this.plan = plan;
        Frame free = FRAMES.poll();
        frame = free == null ? Frame.make() : free;
    }

    /** {@return the description of an input, with the address of 0 for none} */
    long read(String name, @Nullable Tensor tensor) {
        return tensor == null ? 0 : add(name, tensor, false, false);
    }

    /** As {@link #read}, in the layout of the operator. */
    long readImages(String name, @Nullable Tensor tensor) {
        return tensor == null ? 0 : add(name, tensor, false, true);
    }

    /** {@return the description of an output, with the address of 0 for none} */
    long write(String name, @Nullable Tensor tensor) {
        return tensor == null ? 0 : add(name, tensor, true, false);
    }

    /** As {@link #write}, in the layout of the operator. */
    long writeImages(String name, @Nullable Tensor tensor) {
        return tensor == null ? 0 : add(name, tensor, true, true);
    }

    /** Throws what a status says, or brings the results into arrays. */
    void finish(int status) {
        Lib.check(status);
        for (int i = 0; i < n; i++) {
            Tensor tensor = tensors[i];
            if (written[i] && copies[i] != 0 && tensor != null) {
                tensor.copyFrom(new Pointer(copies[i]));
            }
        }
    }

    @Override
    public void close() {
        // Until here the tensors' memory is in use.
        Reference.reachabilityFence(tensors);
        for (int i = 0; i < n; i++) {
            Tensor tensor = tensors[i];
            if (copies[i] != 0 && tensor != null) {
                Native.free(copies[i]);
                COPIED_BYTES.addAndGet(-tensor.bytes());
            }
        }
        FRAMES.offer(frame);
    }

    private long add(String name, Tensor tensor, boolean output, boolean images) {
        int axes = tensor.axes();
        boolean interleaved = images && layout == Layout.NHWC;
        if (interleaved) {
            checkInterleaved(name, tensor);
        }
        if (axes > AXES) {
            throw MiamixArgumentException.of(Status.SHAPE, name, "expected shape of 1 to 5 axes", axes + " axes");
        }
        if (output && tensor.isReadOnly()) {
            throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, name, "must be writable", "a read-only buffer");
        }
        names[n] = name;
        written[n] = output;
        long data = tensor.isDirect() ? tensor.address() : copy(tensor);
        tensors[n] = tensor;
        int at = SLOT * n++;
        int shape = at + TENSOR;
        int strides = shape + 8 * AXES;
        frame.memory.putLong(at, data).putInt(at + 8, DEVICE_CPU).putInt(at + 12, 0)
                .putInt(at + 16, axes).putInt(at + 20, tensor.dtype().packed)
                .putLong(at + 24, frame.address + shape)
                .putLong(at + 32, interleaved ? frame.address + strides : 0)
                .putLong(at + 40, 0);
        long stride = 1;
        for (int axis = axes - 1; axis >= 0; axis--) {
            // Channels are last in memory, and before H and W in the description.
            int place = !interleaved || axis == 0 ? axis : axis == 3 ? 1 : axis + 1;
            frame.memory.putLong(shape + 8 * place, tensor.extent(axis));
            frame.memory.putLong(strides + 8 * place, stride);
            stride *= tensor.extent(axis);
        }
        return frame.address + at;
    }

    /** What the core would say in its own order of the axes. */
    private void checkInterleaved(String name, Tensor tensor) {
        String expected = null;
        if (tensor.axes() != 4) {
            expected = "[N, H, W, C]";
        } else if (first != null) {
            expected = Arrays.equals(tensor.shape(), first.shape()) ? null : Arrays.toString(first.shape());
        } else if (plan != null && (tensor.extent(0) != plan.samples() || tensor.extent(1) != plan.height()
                || tensor.extent(2) != plan.width())) {
            expected = "[" + plan.samples() + ", " + plan.height() + ", " + plan.width() + ", C], as the plan";
        }
        if (expected != null) {
            throw MiamixArgumentException.of(Status.SHAPE, name, "expected shape " + expected,
                    Arrays.toString(tensor.shape()));
        }
        first = tensor;
    }

    /** Room for an array on the library's side, with its elements if they are read. */
    private long copy(Tensor tensor) {
        for (int i = 0; i < n; i++) {
            Tensor other = tensors[i];
            // Copies would hide from the core that they share memory.
            if (other != null && other.array() == tensor.array() && (written[i] || written[n])) {
                String output = written[n] ? names[n] : names[i];
                throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, output,
                        "must not overlap " + (written[n] ? names[i] : names[n]), tensor.bytes() + " bytes in common");
            }
        }
        long bytes = tensor.bytes();
        // Of nothing no address is needed, and malloc() may give none.
        long room = bytes == 0 ? 0 : Native.malloc(bytes);
        if (room == 0 && bytes > 0) {
            throw new MiamixException(Status.OUT_OF_MEMORY, "out of memory: " + bytes + " bytes for a copy of "
                    + names[n]);
        }
        if (room != 0) {
            COPIED_BYTES.addAndGet(bytes);
            copies[n] = room;
            if (!written[n]) {
                tensor.copyTo(new Pointer(room));
            }
        }
        return room;
    }
}
