package ai.miamix;

/** A bad argument, by the core's message: {@code name: rule, got value}. Nothing has been written. */
public final class MiamixArgumentException extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    /** Why. */
    private final Status status;

    MiamixArgumentException(Status status, String message) {
        super(message);
        this.status = status;
    }

    /** An argument that the core cannot be shown. */
    static MiamixArgumentException of(Status status, String name, String rule, Object got) {
        return new MiamixArgumentException(status, name + ": " + rule + ", got " + got);
    }

    /** {@return what is wrong: a value, a shape, an element type or a memory layout, a plan} */
    public Status status() {
        return status;
    }
}
