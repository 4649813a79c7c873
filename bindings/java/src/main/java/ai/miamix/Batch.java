package ai.miamix;

import org.jspecify.annotations.Nullable;

/**
 * What is mixed.
 *
 * @param images {@code [N, C, H, W]}, or {@code [N, H, W, C]} with {@link Layout#NHWC}, of float32, float16, bfloat16
 *     or uint8; {@code [N, T, C, H, W]} too with {@link Layout#NCHW}. H and W are 1 to 32768 pixels, N is any number
 * @param partnerImages as {@code images}: the same batch under a second, independent augmentation; {@code null}:
 *     {@code images} serve twice
 * @param labels class ids, {@code [N]} of int64 or int32 below {@link Miamix.Builder#numClasses}, where a negative id
 *     is ignored and gives a row of zeros; or {@code [N, K]} of float32; {@code null}: only pixels are mixed
 */
public record Batch(Tensor images, @Nullable Tensor partnerImages, @Nullable Tensor labels) {
    /**
     * Pixels only.
     *
     * @param images as {@link #images()}
     * @return the batch
     */
    public static Batch of(Tensor images) {
        return new Batch(images, null, null);
    }

    /**
     * Images and labels.
     *
     * @param images as {@link #images()}
     * @param labels as {@link #labels()}
     * @return the batch
     */
    public static Batch of(Tensor images, Tensor labels) {
        return new Batch(images, null, labels);
    }

    /**
     * The same with a second view.
     *
     * @param partnerImages as {@link #partnerImages()}
     * @return another batch
     */
    public Batch withPartnerImages(Tensor partnerImages) {
        return new Batch(images, partnerImages, labels);
    }
}
