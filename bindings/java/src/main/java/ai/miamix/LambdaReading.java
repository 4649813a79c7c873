package ai.miamix;

/** What the ratio lambda of a layer is the share of. */
public enum LambdaReading {
    /** Lambda goes to the partner. */
    COMPLEMENT,
    /** The primary keeps lambda. */
    KEEP
}
