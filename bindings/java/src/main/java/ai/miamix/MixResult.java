package ai.miamix;

import org.jspecify.annotations.Nullable;

/**
 * What mixing gives, or where it goes: {@link Miamix#allocate} makes room, or it is made of the caller's own tensors.
 * What is {@code null} is not written. No tensor may share memory with another one of it or of the batch.
 *
 * @param images as the images of the batch
 * @param labels {@code [N, K]} of float32; {@code null} where there are no labels
 * @param labelWeight {@code [N]} of float32: what the primary's own label weighs (Eq. 12); may be {@code null}
 * @param partnerIndex {@code [N]} of int64: the sample that was mixed in; may be {@code null}
 */
public record MixResult(Tensor images, @Nullable Tensor labels, @Nullable Tensor labelWeight,
        @Nullable Tensor partnerIndex) {
}
