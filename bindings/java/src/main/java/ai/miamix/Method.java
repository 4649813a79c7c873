package ai.miamix;

/** A mixing method: what the mask of one layer looks like. */
public enum Method {
    /** A constant mask. */
    MIXUP,
    /** A box. */
    CUTMIX,
    /** The level set of low-frequency noise. */
    FMIX,
    /** Cells of a grid. */
    GRIDMIX,
    /** An adaptive Gaussian, rotated and stretched. */
    AGMIX,
    /** A round Gaussian. */
    GMIX
}
