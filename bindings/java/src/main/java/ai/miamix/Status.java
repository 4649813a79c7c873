package ai.miamix;

/** What a call of the library answers, with the same numbers in every language. */
public enum Status {
    /** Done. */
    OK,
    /** A parameter, a label or another value is outside its range. */
    INVALID_ARGUMENT,
    /** Shapes disagree. */
    SHAPE,
    /** An element type or a memory layout that the call does not take. */
    DTYPE,
    /** A plan that is malformed. */
    PLAN,
    /** A combination that the library does not provide. */
    UNSUPPORTED,
    /** Memory could not be had. */
    OUT_OF_MEMORY,
    /** No usable CUDA driver or device on this machine. */
    CUDA_UNAVAILABLE,
    /** CUDA reported an error. */
    CUDA,
    /** A bug of the library. */
    INTERNAL;

    private static final Status[] ALL = values();

    static Status of(int number) {
        return number >= 0 && number < ALL.length ? ALL[number] : INTERNAL;
    }

    /** {@return the exception of this status} */
    RuntimeException exception(String message) {
        return switch (this) {
            case INVALID_ARGUMENT, SHAPE, DTYPE, PLAN -> new MiamixArgumentException(this, message);
            case OK, UNSUPPORTED, OUT_OF_MEMORY, CUDA_UNAVAILABLE, CUDA, INTERNAL -> new MiamixException(this, message);
        };
    }
}
