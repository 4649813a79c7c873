package ai.miamix;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The batches of {@code tests/faces.rs}, in any layout and kind of memory, and its hash. */
final class Batches {
    /** Where elements are. */
    enum Memory {
        /** A direct buffer of bytes. */
        BYTES,
        /** A direct buffer of the element's kind. */
        DIRECT,
        /** An array. */
        ARRAY
    }

    private Batches() {}

    /** Element (n, c, y, x) is v = (31 n + 7 c + 13 y + 3 x + salt) mod 251; in floats v / 256. */
    static Tensor images(DType dtype, long[] nchw, int salt, Layout layout, Memory memory) {
        int n = (int) nchw[0];
        int c = (int) nchw[1];
        int h = (int) nchw[2];
        int w = (int) nchw[3];
        ByteBuffer elements = room(dtype, (long) n * c * h * w);
        for (int at = 0; elements.hasRemaining(); at++) {
            int x = layout == Layout.NCHW ? at % w : at / c % w;
            int y = layout == Layout.NCHW ? at / w % h : at / c / w % h;
            int channel = layout == Layout.NCHW ? at / w / h % c : at % c;
            int sample = at / c / h / w;
            put(elements, dtype, (31 * sample + 7 * channel + 13 * y + 3 * x + salt) % 251);
        }
        return tensor(dtype, elements.flip(), memory, axes(nchw, layout));
    }

    static long[] axes(long[] nchw, Layout layout) {
        return layout == Layout.NCHW ? nchw : new long[] {nchw[0], nchw[2], nchw[3], nchw[1]};
    }

    /** Class ids (7 n mod 11) - 1. */
    static Tensor ids(int n, Memory memory) {
        ByteBuffer elements = room(DType.INT64, n);
        for (int i = 0; i < n; i++) {
            elements.putLong(7 * i % 11 - 1);
        }
        return tensor(DType.INT64, elements.flip(), memory, n);
    }

    static ByteBuffer room(DType dtype, long count) {
        return ByteBuffer.allocateDirect((int) (count * dtype.bytes())).order(ByteOrder.nativeOrder());
    }

    static Tensor tensor(DType dtype, ByteBuffer elements, Memory memory, long... shape) {
        if (memory == Memory.BYTES) {
            return Tensor.of(dtype, elements, shape);
        }
        boolean direct = memory == Memory.DIRECT;
        switch (dtype) {
            case FLOAT32 -> {
                float[] array = new float[elements.remaining() / 4];
                elements.asFloatBuffer().get(array);
                return direct ? Tensor.float32(elements.asFloatBuffer(), shape) : Tensor.float32(array, shape);
            }
            case FLOAT16, BFLOAT16 -> {
                short[] array = new short[elements.remaining() / 2];
                elements.asShortBuffer().get(array);
                if (dtype == DType.FLOAT16) {
                    return direct ? Tensor.float16(elements.asShortBuffer(), shape) : Tensor.float16(array, shape);
                }
                return direct ? Tensor.bfloat16(elements.asShortBuffer(), shape) : Tensor.bfloat16(array, shape);
            }
            case UINT8 -> {
                byte[] array = new byte[elements.remaining()];
                elements.duplicate().get(array);
                return direct ? Tensor.uint8(elements, shape) : Tensor.uint8(array, shape);
            }
            case INT32 -> {
                int[] array = new int[elements.remaining() / 4];
                elements.asIntBuffer().get(array);
                return direct ? Tensor.int32(elements.asIntBuffer(), shape) : Tensor.int32(array, shape);
            }
            case INT64 -> {
                long[] array = new long[elements.remaining() / 8];
                elements.asLongBuffer().get(array);
                return direct ? Tensor.int64(elements.asLongBuffer(), shape) : Tensor.int64(array, shape);
            }
            default -> throw new AssertionError(dtype);
        }
    }

    private static void put(ByteBuffer elements, DType dtype, int v) {
        int bits = Float.floatToRawIntBits(v / 256f);
        switch (dtype) {
            case FLOAT32 -> elements.putInt(bits);
            case BFLOAT16 -> elements.putShort((short) (bits >>> 16));
            // No v / 256 is below the least normal number of float16, and none has more digits than it.
            case FLOAT16 -> elements.putShort((short) (v == 0 ? 0 : (bits >>> 23) - 127 + 15 << 10 | bits >>> 13 & 0x3ff));
            case UINT8 -> elements.put((byte) v);
            default -> throw new AssertionError(dtype);
        }
    }

    /** All bytes of a tensor, in the machine's order. */
    static byte[] bytes(Tensor tensor) {
        ByteBuffer out = ByteBuffer.allocate((int) tensor.bytes()).order(ByteOrder.nativeOrder());
        switch (tensor.dtype()) {
            case FLOAT32 -> out.asFloatBuffer().put(tensor.asFloatBuffer());
            case FLOAT16, BFLOAT16, INT16, UINT16 -> out.asShortBuffer().put(tensor.asShortBuffer());
            case UINT8, INT8, BOOL -> out.duplicate().put(tensor.asByteBuffer());
            case INT32, UINT32 -> out.asIntBuffer().put(tensor.asIntBuffer());
            case INT64, UINT64 -> out.asLongBuffer().put(tensor.asLongBuffer());
        }
        return out.array();
    }

    /** The bytes of images in the order NCHW. */
    static byte[] planar(Tensor images, Layout layout) {
        byte[] from = bytes(images);
        if (layout == Layout.NCHW) {
            return from;
        }
        int size = images.dtype().bytes();
        int c = (int) images.shape()[3];
        int pixels = (int) (images.shape()[1] * images.shape()[2]);
        byte[] to = new byte[from.length];
        for (int at = 0; at < from.length / size; at++) {
            int sample = at / c / pixels;
            int pixel = at / c % pixels;
            System.arraycopy(from, at * size, to, ((sample * c + at % c) * pixels + pixel) * size, size);
        }
        return to;
    }

    /** 64-bit FNV-1a. */
    static String hash(byte[] bytes) {
        long hash = 0xcbf29ce484222325L;
        for (byte b : bytes) {
            hash = (hash ^ b & 0xff) * 0x100000001b3L;
        }
        return String.format("%016x", hash);
    }

    static DType dtype(String name) {
        return switch (name) {
            case "f32" -> DType.FLOAT32;
            case "f16" -> DType.FLOAT16;
            case "bf16" -> DType.BFLOAT16;
            case "u8" -> DType.UINT8;
            default -> throw new AssertionError(name);
        };
    }

    static long[] longs(Object numbers) {
        return ((List<?>) numbers).stream().mapToLong(number -> ((Number) number).longValue()).toArray();
    }

    /** A builder with parameters by their names in the core, as JSON has them. */
    static Miamix.Builder builder(Object parameters) {
        Miamix.Builder builder = Miamix.builder();
        ((Map<?, ?>) parameters).forEach((name, value) -> set(builder, (String) name, value));
        return builder;
    }

    private static void set(Miamix.Builder builder, String name, Object value) {
        StringBuilder camel = new StringBuilder();
        for (String word : name.split("_")) {
            camel.append(camel.length() == 0 ? word : word.substring(0, 1).toUpperCase(Locale.ROOT) + word.substring(1));
        }
        try {
            for (var method : Miamix.Builder.class.getMethods()) {
                if (method.getName().contentEquals(camel)) {
                    method.invoke(builder, arguments(method.getParameterTypes(), value));
                    return;
                }
            }
        } catch (ReflectiveOperationException cause) {
            throw new AssertionError(name, cause);
        }
        throw new AssertionError("no " + camel);
    }

    private static Object[] arguments(Class<?>[] types, Object value) {
        if (types.length == 2) {
            long[] range = longs(value);
            return new Object[] {(int) range[0], (int) range[1]};
        }
        if (types[0] == Map.class) {
            var weights = new java.util.EnumMap<Method, Float>(Method.class);
            ((Map<?, ?>) value).forEach((method, weight) -> weights.put(
                    Method.valueOf(((String) method).toUpperCase(Locale.ROOT)), ((Number) weight).floatValue()));
            return new Object[] {weights};
        }
        if (types[0].isEnum()) {
            for (Object constant : types[0].getEnumConstants()) {
                if (((Enum<?>) constant).name().equalsIgnoreCase((String) value)) {
                    return new Object[] {constant};
                }
            }
            throw new AssertionError(value);
        }
        return new Object[] {types[0] == float.class ? (Object) ((Number) value).floatValue() : ((Number) value).intValue()};
    }
}
