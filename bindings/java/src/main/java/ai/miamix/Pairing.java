package ai.miamix;

/** How partners are found. */
public enum Pairing {
    /** By a permutation of the batch. */
    PERMUTATION,
    /** Each uniformly over the batch. */
    UNIFORM
}
