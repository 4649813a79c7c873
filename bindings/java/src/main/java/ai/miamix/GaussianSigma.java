package ai.miamix;

/** How wide the Gaussian of a share g is. */
public enum GaussianSigma {
    /** σ² = g·H·W, as published (Eq. 4). */
    PAPER,
    /** σ² = g·H·W / 2π, under which the whole area of a round Gaussian is g·H·W. */
    AREA
}
