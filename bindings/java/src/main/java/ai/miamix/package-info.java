/**
 * MiAMix, multi-stage mixed-sample augmentation (Liang, Liang, Jia, 2023): each image of a training batch is mixed with
 * a partner under a mask drawn in several random stages, and the labels by the share of pixels each image keeps.
 *
 * <pre>{@code
 * parameters + seed + shape --> plan --> masks --> mix --> images, labels
 *                               draws    pure      pure
 * }</pre>
 *
 * <p>{@link ai.miamix.Miamix} is the operator, {@link ai.miamix.Tensor} an array of the caller's,
 * {@link ai.miamix.Plan} everything random in a batch. Equal parameters, shapes and seeds give equal bits in every
 * language, on every machine, with any number of threads.
 *
 * <p>A bad argument is a {@link ai.miamix.MiamixArgumentException}, another failure a
 * {@link ai.miamix.MiamixException}; both carry the message of the core, {@code name: rule, got value}, and its
 * {@link ai.miamix.Status}. What is used after {@code close()} is an {@link java.lang.IllegalStateException}. Unless
 * something may be {@link org.jspecify.annotations.Nullable}, {@code null} is a {@link java.lang.NullPointerException}.
 */
@NullMarked
package ai.miamix;

import org.jspecify.annotations.NullMarked;
