package ai.miamix;

/** Which weight the primary's label gets. */
public enum LabelWeight {
    /** The mean of the merged mask (Eq. 12). */
    MERGED,
    /** What follows from the drawn ratios alone: Σλ under sum, 1 − Σλ under product; refused with product and keep. */
    DRAWN
}
