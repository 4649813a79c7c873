package ai.miamix;

/** The order of the axes of images. */
public enum Layout {
    /** {@code [N, C, H, W]} or {@code [N, T, C, H, W]}: channels before rows. */
    NCHW,
    /** {@code [N, H, W, C]}: channels last. */
    NHWC
}
