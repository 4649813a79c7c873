package ai.miamix;

import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.util.Arrays;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/**
 * An array in memory of the caller's, compact, the last axis the closest: a direct buffer, which the library reads and
 * writes in place, or a Java array, which is copied once on the way in or out.
 *
 * <p>It describes memory and owns none: making one copies nothing, and one may be used again for every batch that is
 * put there. The elements of a buffer are those between its position and its limit when the tensor is made. Memory that
 * somebody else releases, as some pools do, must be there as long as the tensor is in use.
 *
 * <p>All factories throw {@link MiamixArgumentException} for a shape with a negative extent or of too many bytes
 * ({@link Status#SHAPE}), for another number of elements than the shape has ({@link Status#SHAPE}), and for buffers
 * that are not direct or not in the machine's byte order ({@link Status#DTYPE}).
 */
public final class Tensor {
    private final DType dtype;
    private final long[] shape;
    /** All of the elements; its limit and position are never changed. */
    private final Buffer memory;
    /** What the memory wraps, if it is no direct buffer. */
    private final @Nullable Object array;
    private final long address;

    private Tensor(DType dtype, Buffer memory, @Nullable Object array, int perElement, long[] shape) {
        this.dtype = dtype;
        this.shape = shape.clone();
        this.memory = memory;
        this.array = array;
        long count = count(dtype, this.shape);
        if (memory.remaining() != count * perElement) {
            String unit = perElement == 1 ? "elements" : "bytes";
            throw MiamixArgumentException.of(Status.SHAPE, "elements", "expected " + count * perElement + " " + unit
                    + " for the shape " + Arrays.toString(shape), memory.remaining());
        }
        address = array != null ? 0 : Pointer.nativeValue(Native.getDirectBufferPointer(memory));
    }

    /**
     * Describes elements of any type in a buffer of bytes.
     *
     * @param dtype the type of an element
     * @param elements a direct buffer in the machine's byte order, which does not matter for elements of a byte
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor of(DType dtype, ByteBuffer elements, long... shape) {
        if (dtype.bytes() > 1) {
            checkOrder(elements.order());
        }
        checkDirect(elements);
        ByteBuffer memory = elements.slice().order(ByteOrder.nativeOrder());
        return new Tensor(dtype, memory, null, dtype.bytes(), shape);
    }

    /**
     * Makes a tensor of zeros in a direct buffer of its own, which lives as long as the tensor and its views.
     *
     * @param dtype the type of an element
     * @param shape the extents, each at least 0; less than 2 GiB together
     * @return the tensor
     */
    public static Tensor allocate(DType dtype, long... shape) {
        return of(dtype, ByteBuffer.allocateDirect(capacity(dtype, shape)).order(ByteOrder.nativeOrder()), shape);
    }

    /** Room as {@link #allocate} makes it, or in an array where {@code like} is in one. */
    static Tensor allocateLike(Tensor like, DType dtype, long... shape) {
        if (like.array == null) {
            return allocate(dtype, shape);
        }
        int count = capacity(dtype, shape) / dtype.bytes();
        return switch (dtype) {
            case FLOAT32 -> float32(new float[count], shape);
            case FLOAT16, BFLOAT16, UINT16, INT16 -> ofArray(dtype, ShortBuffer.wrap(new short[count]), shape);
            case UINT8, INT8, BOOL -> ofArray(dtype, ByteBuffer.wrap(new byte[count]), shape);
            case UINT32, INT32 -> ofArray(dtype, IntBuffer.wrap(new int[count]), shape);
            case UINT64, INT64 -> ofArray(dtype, LongBuffer.wrap(new long[count]), shape);
        };
    }

    /**
     * Describes float32 in a buffer.
     *
     * @param elements a direct buffer in the machine's byte order
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor float32(FloatBuffer elements, long... shape) {
        checkOrder(elements.order());
        return new Tensor(DType.FLOAT32, checkDirect(elements).slice(), null, 1, shape);
    }

    /**
     * Describes float32 in an array.
     *
     * @param elements copied once for each call
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor float32(float[] elements, long... shape) {
        return ofArray(DType.FLOAT32, FloatBuffer.wrap(elements), shape);
    }

    /**
     * Describes float16 in a buffer.
     *
     * @param elements the bits, in a direct buffer in the machine's byte order
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor float16(ShortBuffer elements, long... shape) {
        checkOrder(elements.order());
        return new Tensor(DType.FLOAT16, checkDirect(elements).slice(), null, 1, shape);
    }

    /**
     * Describes float16 in an array.
     *
     * @param elements the bits, copied once for each call
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor float16(short[] elements, long... shape) {
        return ofArray(DType.FLOAT16, ShortBuffer.wrap(elements), shape);
    }

    /**
     * Describes bfloat16 in a buffer.
     *
     * @param elements the bits, in a direct buffer in the machine's byte order
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor bfloat16(ShortBuffer elements, long... shape) {
        checkOrder(elements.order());
        return new Tensor(DType.BFLOAT16, checkDirect(elements).slice(), null, 1, shape);
    }

    /**
     * Describes bfloat16 in an array.
     *
     * @param elements the bits, copied once for each call
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor bfloat16(short[] elements, long... shape) {
        return ofArray(DType.BFLOAT16, ShortBuffer.wrap(elements), shape);
    }

    /**
     * Describes uint8 in a buffer.
     *
     * @param elements the bits, in a direct buffer
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor uint8(ByteBuffer elements, long... shape) {
        return of(DType.UINT8, elements, shape);
    }

    /**
     * Describes uint8 in an array.
     *
     * @param elements the bits, copied once for each call
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor uint8(byte[] elements, long... shape) {
        return ofArray(DType.UINT8, ByteBuffer.wrap(elements), shape);
    }

    /**
     * Describes int32 in a buffer.
     *
     * @param elements a direct buffer in the machine's byte order
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor int32(IntBuffer elements, long... shape) {
        checkOrder(elements.order());
        return new Tensor(DType.INT32, checkDirect(elements).slice(), null, 1, shape);
    }

    /**
     * Describes int32 in an array.
     *
     * @param elements copied once for each call
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor int32(int[] elements, long... shape) {
        return ofArray(DType.INT32, IntBuffer.wrap(elements), shape);
    }

    /**
     * Describes int64 in a buffer.
     *
     * @param elements a direct buffer in the machine's byte order
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor int64(LongBuffer elements, long... shape) {
        checkOrder(elements.order());
        return new Tensor(DType.INT64, checkDirect(elements).slice(), null, 1, shape);
    }

    /**
     * Describes int64 in an array.
     *
     * @param elements copied once for each call
     * @param shape the extents, each at least 0
     * @return the tensor
     */
    public static Tensor int64(long[] elements, long... shape) {
        return ofArray(DType.INT64, LongBuffer.wrap(elements), shape);
    }

    /** {@return the type of an element} */
    public DType dtype() {
        return dtype;
    }

    /** {@return a copy of the extents} */
    public long[] shape() {
        return shape.clone();
    }

    /** {@return whether the library reads and writes the elements in place} */
    public boolean isDirect() {
        return array == null;
    }

    /**
     * Views float32 elements; a view of an array {@linkplain Buffer#hasArray has} that array.
     *
     * @return a view of all elements, in the machine's byte order
     * @throws IllegalStateException if the elements are no float32
     */
    public FloatBuffer asFloatBuffer() {
        checkElement(dtype == DType.FLOAT32, "float32");
        return memory instanceof ByteBuffer bytes ? bytes.asFloatBuffer() : ((FloatBuffer) memory).duplicate();
    }

    /**
     * Views the bits of elements of two bytes: float16, bfloat16 and others.
     *
     * @return a view of all elements, in the machine's byte order
     * @throws IllegalStateException if the elements have another size
     */
    public ShortBuffer asShortBuffer() {
        checkElement(dtype.bytes() == 2, "of two bytes");
        return memory instanceof ByteBuffer bytes ? bytes.asShortBuffer() : ((ShortBuffer) memory).duplicate();
    }

    /**
     * Views elements of four bytes that are integers.
     *
     * @return a view of all elements, in the machine's byte order
     * @throws IllegalStateException if the elements are no such integers
     */
    public IntBuffer asIntBuffer() {
        checkElement(dtype == DType.INT32 || dtype == DType.UINT32, "integers of four bytes");
        return memory instanceof ByteBuffer bytes ? bytes.asIntBuffer() : ((IntBuffer) memory).duplicate();
    }

    /**
     * Views elements of eight bytes.
     *
     * @return a view of all elements, in the machine's byte order
     * @throws IllegalStateException if the elements have another size
     */
    public LongBuffer asLongBuffer() {
        checkElement(dtype.bytes() == 8, "of eight bytes");
        return memory instanceof ByteBuffer bytes ? bytes.asLongBuffer() : ((LongBuffer) memory).duplicate();
    }

    /**
     * Views the bytes of a tensor that is in a buffer of bytes, as all are that {@link #allocate} made.
     *
     * @return a view of all bytes, in the machine's byte order
     * @throws IllegalStateException if the elements are in a buffer or an array of another kind
     */
    public ByteBuffer asByteBuffer() {
        checkElement(memory instanceof ByteBuffer, "in a buffer of bytes");
        return ((ByteBuffer) memory).duplicate().order(ByteOrder.nativeOrder());
    }

    /** {@return element type and shape, as messages have them} */
    @Override
    public String toString() {
        return dtype.name().toLowerCase(Locale.ROOT) + Arrays.toString(shape);
    }

    int axes() {
        return shape.length;
    }

    long extent(int axis) {
        return shape[axis];
    }

    boolean isReadOnly() {
        return memory.isReadOnly();
    }

    long bytes() {
        return (long) memory.remaining() * (memory instanceof ByteBuffer ? 1 : dtype.bytes());
    }

    /** The address of the first element of a direct buffer, valid while this tensor is reachable. */
    long address() {
        return address;
    }

    @Nullable Object array() {
        return array;
    }

    /** Copies an array to the library's side. */
    void copyTo(Pointer room) {
        if (array instanceof float[] elements) {
            room.write(0, elements, 0, elements.length);
        } else if (array instanceof short[] elements) {
            room.write(0, elements, 0, elements.length);
        } else if (array instanceof byte[] elements) {
            room.write(0, elements, 0, elements.length);
        } else if (array instanceof int[] elements) {
            room.write(0, elements, 0, elements.length);
        } else if (array instanceof long[] elements) {
            room.write(0, elements, 0, elements.length);
        }
    }

    /** Copies what the library wrote into the array. */
    void copyFrom(Pointer room) {
        if (array instanceof float[] elements) {
            room.read(0, elements, 0, elements.length);
        } else if (array instanceof short[] elements) {
            room.read(0, elements, 0, elements.length);
        } else if (array instanceof byte[] elements) {
            room.read(0, elements, 0, elements.length);
        } else if (array instanceof int[] elements) {
            room.read(0, elements, 0, elements.length);
        } else if (array instanceof long[] elements) {
            room.read(0, elements, 0, elements.length);
        }
    }

    private static Tensor ofArray(DType dtype, Buffer wrapped, long... shape) {
        return new Tensor(dtype, wrapped, wrapped.array(), 1, shape);
    }

    private void checkElement(boolean fits, String rule) {
        if (!fits) {
            throw new IllegalStateException("tensor: must be " + rule + ", got " + this);
        }
    }

    private static <B extends Buffer> B checkDirect(B elements) {
        if (!elements.isDirect()) {
            throw MiamixArgumentException.of(Status.DTYPE, "elements", "must be a direct buffer or an array",
                    "a buffer on the heap");
        }
        return elements;
    }

    private static void checkOrder(ByteOrder order) {
        if (order != ByteOrder.nativeOrder()) {
            throw MiamixArgumentException.of(Status.DTYPE, "elements",
                    "must be in the machine's byte order, " + ByteOrder.nativeOrder(), order);
        }
    }

    /** The number of elements; neither it nor that of bytes overflows. */
    private static long count(DType dtype, long[] shape) {
        long count = 1;
        long product = dtype.bytes();
        for (long extent : shape) {
            if (extent < 0) {
                throw MiamixArgumentException.of(Status.SHAPE, "shape", "must have extents of at least 0",
                        Arrays.toString(shape));
            }
            // Strides are products of extents that are not 0, even in an empty tensor.
            product = product > Long.MAX_VALUE / Math.max(extent, 1) ? -1 : product * Math.max(extent, 1);
            if (product < 0) {
                throw MiamixArgumentException.of(Status.SHAPE, "shape", "must have less than 2^63 bytes",
                        Arrays.toString(shape));
            }
            count *= extent;
        }
        return count;
    }

    private static int capacity(DType dtype, long[] shape) {
        long bytes = count(dtype, shape) * dtype.bytes();
        if (bytes > Integer.MAX_VALUE) {
            throw MiamixArgumentException.of(Status.SHAPE, "shape", "must have less than 2^31 bytes, where Java makes room",
                    Arrays.toString(shape));
        }
        return (int) bytes;
    }
}
