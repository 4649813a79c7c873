package ai.miamix;

/** Which weight the primary's label gets. */
public enum LabelWeight {
    /** The mean of the merged mask (Eq. 12). */
    MERGED,
    /** What the drawn ratios add up to. */
    DRAWN
}
