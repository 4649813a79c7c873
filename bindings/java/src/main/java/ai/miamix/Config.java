package ai.miamix;

import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** {@code miamix_config}: the parameters in memory that the library reads. Defaults and ranges are the core's. */
final class Config {
    /** What a parameter is: numbers, or the constants of an enumeration by their order. */
    record Field(int offset, int count, boolean real, @SuppressWarnings("rawtypes") Class<? extends Enum> names) {}

    /** Every parameter by its name in the core, in the order of the struct. */
    static final Map<String, Field> FIELDS = new Fields()
            .reals("alpha", 1).counts("k_min", 1).counts("k_max", 1).reals("method_weights", 6)
            .reals("p_apply", 1).reals("p_self", 1).reals("p_aug", 1).reals("p_smooth", 1)
            .names("merge", Merge.class).names("label_weight", LabelWeight.class)
            .names("lambda_reading", LambdaReading.class).names("gaussian_sigma", GaussianSigma.class)
            .names("pairing", Pairing.class).names("cutmix_box", CutmixBox.class)
            .counts("grid_range", 2).reals("decay_power", 1).reals("rotate_max_rad", 1).reals("shear_max", 1)
            .counts("smooth_range_px", 2).reals("p_flip", 1).counts("pad_px", 1).reals("label_smoothing", 1)
            .counts("n_threads", 1).all;

    static final int SIZE = 128;

    private final ByteBuffer memory = ByteBuffer.allocateDirect(SIZE).order(ByteOrder.nativeOrder());

    /** The defaults of the core. */
    Config() {
        Lib.check(Lib.miamix_config_init(address(), SIZE));
        Reference.reachabilityFence(this);
    }

    /** The same parameters, which no change of these changes. */
    Config copy() {
        Config copy = new Config();
        copy.memory.put(0, memory, 0, SIZE);
        return copy;
    }

    /** Valid while this object is reachable. */
    long address() {
        return Pointer.nativeValue(Native.getDirectBufferPointer(memory));
    }

    void set(String name, float... values) {
        Field field = field(name, true, values.length);
        for (int i = 0; i < values.length; i++) {
            memory.putFloat(field.offset + 4 * i, values[i]);
        }
    }

    void set(String name, int... values) {
        Field field = field(name, false, values.length);
        for (int value : values) {
            // In C it would be a large number, and the core would say that one.
            if (value < 0) {
                throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, name, "must be at least 0", value);
            }
        }
        for (int i = 0; i < values.length; i++) {
            memory.putInt(field.offset + 4 * i, values[i]);
        }
    }

    void set(String name, Enum<?> value) {
        set(name, value.ordinal());
    }

    /** Every parameter; n_threads, which changes no result, is none. */
    Map<String, Object> values() {
        Map<String, Object> values = new LinkedHashMap<>();
        FIELDS.forEach((name, field) -> {
            if (!name.equals("n_threads")) {
                values.put(name, value(name, field));
            }
        });
        return Collections.unmodifiableMap(values);
    }

    private Object value(String name, Field field) {
        List<Object> values = new ArrayList<>();
        for (int i = 0; i < field.count; i++) {
            int at = field.offset + 4 * i;
            if (field.real) {
                values.add(memory.getFloat(at));
            } else if (field.names.isEnum()) {
                values.add(field.names.getEnumConstants()[memory.getInt(at)]);
            } else {
                values.add(memory.getInt(at));
            }
        }
        if (name.equals("method_weights")) {
            Map<Method, Object> weights = new EnumMap<>(Method.class);
            for (Method method : Method.values()) {
                weights.put(method, values.get(method.ordinal()));
            }
            return Collections.unmodifiableMap(weights);
        }
        return field.count == 1 ? values.get(0) : List.copyOf(values);
    }

    private static Field field(String name, boolean real, int count) {
        Field field = FIELDS.get(name);
        if (field == null || field.real != real || field.count != count) {
            throw new AssertionError(name);
        }
        return field;
    }

    /** Lays fields of four bytes out, one after the other, behind struct_size. */
    private static final class Fields {
        final Map<String, Field> all = new LinkedHashMap<>();
        private int offset = 8;

        Fields reals(String name, int count) {
            return add(name, count, true, Enum.class);
        }

        Fields counts(String name, int count) {
            return add(name, count, false, Enum.class);
        }

        Fields names(String name, @SuppressWarnings("rawtypes") Class<? extends Enum> names) {
            return add(name, 1, false, names);
        }

        private Fields add(String name, int count, boolean real,
                @SuppressWarnings("rawtypes") Class<? extends Enum> names) {
            all.put(name, new Field(offset, count, real, names));
            offset += 4 * count;
            return this;
        }
    }
}
