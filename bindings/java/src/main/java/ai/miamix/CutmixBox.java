package ai.miamix;

/** Where cutmix puts its box. */
public enum CutmixBox {
    /** Centre anywhere, the box cut at the border, as published. */
    CLIPPED,
    /** The whole box inside the image. */
    INSIDE
}
