package ai.miamix;

/** The type of an element. */
public enum DType {
    /** IEEE 754, 32 bits: {@code float}. */
    FLOAT32(2, 32),
    /** IEEE 754, 16 bits: the bits in a {@code short}. */
    FLOAT16(2, 16),
    /** bfloat16, the upper half of a {@code float}: the bits in a {@code short}. */
    BFLOAT16(4, 16),
    /** 0 to 255: the bits in a {@code byte}. */
    UINT8(1, 8),
    /** {@code byte}. */
    INT8(0, 8),
    /** 0 to 65,535: the bits in a {@code short}. */
    UINT16(1, 16),
    /** {@code short}. */
    INT16(0, 16),
    /** 32 bits without a sign: the bits in an {@code int}. */
    UINT32(1, 32),
    /** {@code int}. */
    INT32(0, 32),
    /** 64 bits without a sign: the bits in a {@code long}. */
    UINT64(1, 64),
    /** {@code long}. */
    INT64(0, 64),
    /** A truth value: a {@code byte}, 0 or 1. */
    BOOL(6, 8);

    /** {@code miamix_dtype} as one number: code, bits, one lane. */
    final int packed;
    private final int bytes;

    DType(int code, int bits) {
        // Little-endian, as every machine that the library is built for: uint8, uint8, uint16.
        packed = code | bits << 8 | 1 << 16;
        bytes = bits / 8;
    }

    /** {@return the bytes of an element} */
    public int bytes() {
        return bytes;
    }
}
