package ai.miamix;

/** The library could not do what it was asked for, though the arguments are well formed. */
public final class MiamixException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** Why. */
    private final Status status;

    MiamixException(Status status, String message) {
        super(message);
        this.status = status;
    }

    /** {@return why, as a number that every language knows} */
    public Status status() {
        return status;
    }
}
