package ai.miamix;

/** How the masks of a sample's layers become one. */
public enum Merge {
    /** The product of the masks (Eq. 10). */
    PRODUCT,
    /** The sum of the masks, clipped to [0, 1] (Eq. 11). */
    SUM
}
