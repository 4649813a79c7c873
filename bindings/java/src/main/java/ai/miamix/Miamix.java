package ai.miamix;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.file.Path;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Multi-stage mixed-sample augmentation (Liang, Liang, Jia, 2023): the operator.
 *
 * <pre>{@code
 * try (Miamix miamix = Miamix.builder().numClasses(10).labelSmoothing(0.1f).build()) {
 *     Batch batch = Batch.of(Tensor.float32(images, 64, 3, 32, 32), Tensor.int64(labels, 64));
 *     MixResult room = miamix.allocate(batch);
 *     miamix.mix(batch, seed, firstSample, room);
 * }
 * }</pre>
 *
 * <p>It keeps no random state: a seed and the index of a batch's first sample name the plan. Direct buffers are read
 * and written in place, arrays are copied once. Calls return when the work is done; on an error nothing is written,
 * but for {@link Status#OUT_OF_MEMORY}.
 *
 * <p>Threads: an operator may be shared by any number of threads. {@link #close()} releases it once no call uses it; an
 * operator that is not closed is released when it is collected. Plans that it drew live on.
 */
public final class Miamix implements AutoCloseable {
    private final Config config;
    private final Layout layout;
    private final int numClasses;
    private final Handle handle;
    private final Cleaner.Cleanable cleanable;

    private Miamix(Config config, Layout layout, int numClasses) {
        long[] out = new long[1];
        Lib.check(Lib.miamix_op_create(config.address(), out));
        Reference.reachabilityFence(config);
        this.config = config;
        this.layout = layout;
        this.numClasses = numClasses;
        handle = new Handle("miamix", out[0], Lib::miamix_op_free);
        cleanable = handle.ownedBy(this);
    }

    /**
     * Begins with the paper's parameters.
     *
     * @return a builder
     * @throws UnsatisfiedLinkError as {@link #libraryPath}
     */
    public static Builder builder() {
        return new Builder();
    }

    /**
     * The native library of this process: the one that the system property {@code ai.miamix.library} or the environment
     * variable {@code MIAMIX_LIBRARY} names, else the one in the jar, unpacked to a folder that nobody else can write
     * to. It is the operator library of ONNX Runtime, too, and stays there as long as the process lives:
     * {@code sessionOptions.registerCustomOpLibrary(Miamix.libraryPath().toString())}.
     *
     * @return the absolute path
     * @throws UnsatisfiedLinkError if there is no library for this machine, or it cannot be loaded
     */
    public static Path libraryPath() {
        return Lib.PATH;
    }

    /** {@return the version of the native library, as {@code 0.1.0}} */
    public static String version() {
        return Lib.text(Lib.miamix_version());
    }

    /**
     * Every parameter by its name in the core, in the order of its documentation: {@link Float}, {@link Integer}, a
     * constant of one of the enumerations, a {@link java.util.List} of two integers, or a map by {@link Method}.
     *
     * @return a map that cannot be changed
     */
    public Map<String, Object> parameters() {
        return config.values();
    }

    /** {@return the order of the axes of images} */
    public Layout layout() {
        return layout;
    }

    /** {@return K for class ids; 0 where it was not given} */
    public int numClasses() {
        return numClasses;
    }

    /**
     * Draws every random decision for one batch.
     *
     * @param samples N
     * @param height H, pixels, 1 to 32768
     * @param width W, pixels, 1 to 32768
     * @param seed 64 bits; equal seeds give equal plans in every language
     * @param firstSample global index of the batch's first sample, as 64 bits without a sign: a running counter lets
     *     one seed serve a whole training run, and data-parallel ranks differ by it
     * @return the plan, to be closed
     * @throws MiamixArgumentException if an extent is out of its range
     * @throws IllegalStateException if the operator is closed
     */
    public Plan draw(long samples, long height, long width, long seed, long firstSample) {
        checkExtent("samples", samples);
        checkExtent("height", height);
        checkExtent("width", width);
        long op = handle.acquire();
        try {
            long[] out = new long[1];
            Lib.check(Lib.miamix_plan_draw(op, new long[] {samples, height, width}, seed, firstSample, out));
            return new Plan(out[0]);
        } finally {
            handle.release();
        }
    }

    /**
     * Makes room for what mixing a batch gives: in direct buffers, or in arrays where the images are in one.
     *
     * @param batch of which only shapes and element types are read
     * @return room for all four results
     * @throws MiamixArgumentException if the images have no batch axis, {@link Builder#numClasses} is missing, or Java
     *     cannot make as much room at once
     */
    public MixResult allocate(Batch batch) {
        Tensor images = batch.images();
        if (images.axes() == 0) {
            throw MiamixArgumentException.of(Status.SHAPE, "images", "must have a batch axis", "no axes");
        }
        Tensor labels = batch.labels();
        Tensor mixedLabels = null;
        if (labels != null) {
            long[] rows = labels.axes() == 1 ? new long[] {labels.extent(0), classes(labels)} : labels.shape();
            mixedLabels = Tensor.allocateLike(images, DType.FLOAT32, rows);
        }
        return new MixResult(Tensor.allocateLike(images, images.dtype(), images.shape()), mixedLabels,
                Tensor.allocateLike(images, DType.FLOAT32, images.extent(0)),
                Tensor.allocateLike(images, DType.INT64, images.extent(0)));
    }

    /**
     * Draws a plan for a batch, and mixes the batch under it, into new memory.
     *
     * <p>A training loop calls {@link #mix(Batch, long, long, MixResult)}, which allocates nothing of a batch's size.
     *
     * @param batch what is mixed
     * @param seed as for {@link #draw}
     * @param firstSample as for {@link #draw}
     * @return all four results, where {@link #allocate} makes room
     * @throws MiamixArgumentException if the batch is malformed, with the rule and the value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator is closed
     */
    public MixResult mix(Batch batch, long seed, long firstSample) {
        MixResult room = allocate(batch);
        mix(batch, seed, firstSample, room);
        return room;
    }

    /**
     * Draws a plan for a batch, and mixes the batch under it.
     *
     * @param batch what is mixed
     * @param seed as for {@link #draw}
     * @param firstSample as for {@link #draw}
     * @param room where the results go
     * @throws MiamixArgumentException if the batch or the room is malformed, with the rule and the value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator is closed
     */
    public void mix(Batch batch, long seed, long firstSample, MixResult room) {
        mix(null, batch, seed, firstSample, room);
    }

    /**
     * Mixes a batch under a plan, into new memory.
     *
     * @param plan drawn by this operator or another one: this one gives the threads and the label smoothing
     * @param batch of as many samples and pixels as the plan has
     * @return all four results, where {@link #allocate} makes room
     * @throws MiamixArgumentException if the batch is malformed or does not fit, with the rule and the value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator or the plan is closed
     */
    public MixResult apply(Plan plan, Batch batch) {
        MixResult room = allocate(batch);
        apply(plan, batch, room);
        return room;
    }

    /**
     * Mixes a batch under a plan.
     *
     * <pre>{@code
     * images[i] = mask[i] * images[i] + (1 - mask[i]) * partnerImages[partnerIndex[i]]
     * labels[i] = labelWeight[i] * labels[i] + (1 - labelWeight[i]) * labels[partnerIndex[i]]
     * }</pre>
     *
     * @param plan drawn by this operator or another one: this one gives the threads and the label smoothing
     * @param batch of as many samples and pixels as the plan has
     * @param room where the results go
     * @throws MiamixArgumentException if the batch or the room is malformed or does not fit, with the rule and the
     *     value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator or the plan is closed
     */
    public void apply(Plan plan, Batch batch, MixResult room) {
        mix(Objects.requireNonNull(plan, "plan"), batch, 0, 0, room);
    }

    private void mix(@Nullable Plan plan, Batch batch, long seed, long firstSample, MixResult room) {
        Objects.requireNonNull(batch.images(), "images of the batch");
        Objects.requireNonNull(room.images(), "images of the room");
        Tensor givenLabels = batch.labels();
        long k = givenLabels == null ? 0 : givenLabels.axes() == 1 ? classes(givenLabels) : numClasses;
        long op = handle.acquire();
        try (Call call = new Call(layout, plan)) {
            long images = call.readImages("images", batch.images());
            long partnerImages = call.readImages("partner_images", batch.partnerImages());
            long labels = call.read("labels", givenLabels);
            long mixedImages = call.writeImages("mixed_images", room.images());
            long mixedLabels = call.write("mixed_labels", room.labels());
            long labelWeight = call.write("label_weight", room.labelWeight());
            long partnerIndex = call.write("partner_index", room.partnerIndex());
            if (plan == null) {
                call.finish(Lib.miamix_mix(op, seed, firstSample, images, partnerImages, labels, k, mixedImages,
                        mixedLabels, labelWeight, partnerIndex, 0));
                return;
            }
            long planned = plan.handle().acquire();
            try {
                call.finish(Lib.miamix_apply(op, planned, images, partnerImages, labels, k, mixedImages, mixedLabels,
                        labelWeight, partnerIndex, 0));
            } finally {
                plan.handle().release();
            }
        } finally {
            handle.release();
        }
    }

    /**
     * Mixes label maps (segmentation) under a plan: the primary's label where the mask is at least 1/2, else the
     * partner's.
     *
     * @param plan of the images that the maps belong to
     * @param maps {@code [N, H, W]} of integers of any size, or of {@link DType#BOOL}
     * @param partnerMaps the maps of the partner images; {@code null}: {@code maps} serve twice
     * @param mixedMaps as {@code maps}, sharing memory with neither
     * @throws MiamixArgumentException if a tensor is malformed or does not fit, with the rule and the value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator or the plan is closed
     */
    public void applyMaps(Plan plan, Tensor maps, @Nullable Tensor partnerMaps, Tensor mixedMaps) {
        Objects.requireNonNull(maps, "maps");
        Objects.requireNonNull(mixedMaps, "mixedMaps");
        under(plan, (call, op, planned) -> Lib.miamix_apply_maps(op, planned, call.read("maps", maps),
                call.read("partner_maps", partnerMaps), call.write("mixed_maps", mixedMaps), 0));
    }

    /**
     * Renders the masks of a plan, and what its labels weigh (Algorithm 1, stage 3).
     *
     * @param plan whose masks
     * @param masks {@code [N, H, W]} of float32, 1 keeps the primary pixel; may be {@code null}
     * @param labelWeight {@code [N]} of float32; may be {@code null}
     * @throws MiamixArgumentException if a tensor is malformed or does not fit, with the rule and the value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator or the plan is closed
     */
    public void masks(Plan plan, @Nullable Tensor masks, @Nullable Tensor labelWeight) {
        under(plan, (call, op, planned) -> Lib.miamix_masks(op, planned, call.write("masks", masks),
                call.write("label_weight", labelWeight), 0));
    }

    /**
     * The gradient of {@link #apply(Plan, Batch, MixResult)}: from that of the mixed images to those of the images.
     *
     * <pre>{@code
     * gradImages[i]        = mask[i] * gradMixed[i]
     * gradPartnerImages[t] = sum of (1 - mask[i]) * gradMixed[i] over the i with partnerIndex[i] = t
     * }</pre>
     *
     * @param plan under which the images were mixed
     * @param gradMixed images of float32, float16 or bfloat16, in the layout of the operator
     * @param gradImages as {@code gradMixed}
     * @param gradPartnerImages as {@code gradMixed}; {@code null} where images served twice: {@code gradImages} gets
     *     the sum of both
     * @throws MiamixArgumentException if a tensor is malformed or does not fit, with the rule and the value
     * @throws MiamixException if memory cannot be had
     * @throws IllegalStateException if the operator or the plan is closed
     */
    public void backward(Plan plan, Tensor gradMixed, Tensor gradImages, @Nullable Tensor gradPartnerImages) {
        Objects.requireNonNull(gradMixed, "gradMixed");
        Objects.requireNonNull(gradImages, "gradImages");
        under(plan, (call, op, planned) -> Lib.miamix_backward(op, planned, call.readImages("grad_mixed", gradMixed),
                call.writeImages("grad_images", gradImages),
                call.writeImages("grad_partner_images", gradPartnerImages), 0));
    }

    /** Releases the operator once no call uses it. Closing it again does nothing. */
    @Override
    public void close() {
        cleanable.clean();
    }

    /** {@return the parameters} */
    @Override
    public String toString() {
        return "Miamix" + parameters();
    }

    /** A call of the library on a plan. */
    private interface Under {
        int call(Call call, long op, long plan);
    }

    private void under(Plan plan, Under work) {
        long op = handle.acquire();
        try {
            long planned = plan.handle().acquire();
            try (Call call = new Call(layout, plan)) {
                call.finish(work.call(call, op, planned));
            } finally {
                plan.handle().release();
            }
        } finally {
            handle.release();
        }
    }

    /** K for class ids, which have no column that says it. */
    private int classes(Tensor labels) {
        if (numClasses == 0 && labels.dtype() != DType.FLOAT32) {
            throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, "num_classes",
                    "must be given where labels are class ids", "none");
        }
        return numClasses;
    }

    private static void checkExtent(String name, long extent) {
        if (extent < 0) {
            throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, name, "must be at least 0", extent);
        }
    }

    /**
     * The parameters of an operator (Table 1 of the paper), and a switch for each thing that the paper leaves open.
     *
     * <p>Real numbers are float32 in every language. Probabilities are in [0, 1]. Ranges are checked by
     * {@link #build}; a negative number where there is none, or {@code null}, is an error at once.
     */
    public static final class Builder {
        private final Config config = new Config();
        private Layout layout = Layout.NCHW;
        private int numClasses;

        private Builder() {}

        /**
         * K, for labels that are class ids.
         *
         * @param numClasses the number of classes; 0, the default: not given
         * @return this
         */
        public Builder numClasses(int numClasses) {
            if (numClasses < 0) {
                throw MiamixArgumentException.of(Status.INVALID_ARGUMENT, "num_classes", "must be at least 0",
                        numClasses);
            }
            this.numClasses = numClasses;
            return this;
        }

        /**
         * The order of the axes of images. Default {@link Layout#NCHW}.
         *
         * @param layout the order
         * @return this
         */
        public Builder layout(Layout layout) {
            this.layout = Objects.requireNonNull(layout, "layout");
            return this;
        }

        /**
         * Dirichlet parameter, greater than 0. Default 1.
         *
         * @param alpha the parameter
         * @return this
         */
        public Builder alpha(float alpha) {
            config.set("alpha", alpha);
            return this;
        }

        /**
         * Fewest layers, 1 to k_max. Default 1.
         *
         * @param kMin the number of layers
         * @return this
         */
        public Builder kMin(int kMin) {
            config.set("k_min", kMin);
            return this;
        }

        /**
         * Most layers, k_min to 8; the number is uniform in between. Default 2.
         *
         * @param kMax the number of layers
         * @return this
         */
        public Builder kMax(int kMax) {
            config.set("k_max", kMax);
            return this;
        }

        /**
         * Relative odds of a layer's method; at least 0, not all 0. Default 2, 1, 1, 1, 1, 0.
         *
         * @param weights the odds by method; those left out are 0
         * @return this
         */
        public Builder methodWeights(Map<Method, Float> weights) {
            float[] values = new float[Method.values().length];
            weights.forEach((method, weight) -> values[method.ordinal()] = weight);
            config.set("method_weights", values);
            return this;
        }

        /**
         * Probability that a sample is mixed at all. Default 1.
         *
         * @param pApply the probability
         * @return this
         */
        public Builder pApply(float pApply) {
            config.set("p_apply", pApply);
            return this;
        }

        /**
         * Probability that a sample is mixed with itself (its other view). Default 0.1.
         *
         * @param pSelf the probability
         * @return this
         */
        public Builder pSelf(float pSelf) {
            config.set("p_self", pSelf);
            return this;
        }

        /**
         * Probability, per layer, that its mask is rotated and sheared. Default 0.25.
         *
         * @param pAug the probability
         * @return this
         */
        public Builder pAug(float pAug) {
            config.set("p_aug", pAug);
            return this;
        }

        /**
         * Probability, per layer, that its mask is smoothed. Default 0.5.
         *
         * @param pSmooth the probability
         * @return this
         */
        public Builder pSmooth(float pSmooth) {
            config.set("p_smooth", pSmooth);
            return this;
        }

        /**
         * How the masks of a sample's layers become one. Default {@link Merge#PRODUCT}.
         *
         * @param merge the rule
         * @return this
         */
        public Builder merge(Merge merge) {
            config.set("merge", merge);
            return this;
        }

        /**
         * Which weight the primary's label gets. Default {@link LabelWeight#MERGED}.
         *
         * @param labelWeight the weight
         * @return this
         */
        public Builder labelWeight(LabelWeight labelWeight) {
            config.set("label_weight", labelWeight);
            return this;
        }

        /**
         * What the ratio lambda of a layer is the share of. Default {@link LambdaReading#COMPLEMENT}.
         *
         * @param lambdaReading the reading
         * @return this
         */
        public Builder lambdaReading(LambdaReading lambdaReading) {
            config.set("lambda_reading", lambdaReading);
            return this;
        }

        /**
         * How wide the Gaussian of a share g is. Default {@link GaussianSigma#PAPER}.
         *
         * @param gaussianSigma the width
         * @return this
         */
        public Builder gaussianSigma(GaussianSigma gaussianSigma) {
            config.set("gaussian_sigma", gaussianSigma);
            return this;
        }

        /**
         * How partners are found. Default {@link Pairing#PERMUTATION}.
         *
         * @param pairing the way
         * @return this
         */
        public Builder pairing(Pairing pairing) {
            config.set("pairing", pairing);
            return this;
        }

        /**
         * Where cutmix puts its box. Default {@link CutmixBox#CLIPPED}.
         *
         * @param cutmixBox the place
         * @return this
         */
        public Builder cutmixBox(CutmixBox cutmixBox) {
            config.set("cutmix_box", cutmixBox);
            return this;
        }

        /**
         * Gridmix: fewest and most cells a side, 1 to 16. Default 2, 8.
         *
         * @param least fewest cells a side
         * @param most most cells a side
         * @return this
         */
        public Builder gridRange(int least, int most) {
            config.set("grid_range", least, most);
            return this;
        }

        /**
         * Fmix: power of the spectrum's decay, at least 2. Default 3.
         *
         * @param decayPower the power
         * @return this
         */
        public Builder decayPower(float decayPower) {
            config.set("decay_power", decayPower);
            return this;
        }

        /**
         * Rotation of a mask, uniform in plus or minus this, radians. Default pi / 4.
         *
         * @param rotateMaxRad the largest angle
         * @return this
         */
        public Builder rotateMaxRad(float rotateMaxRad) {
            config.set("rotate_max_rad", rotateMaxRad);
            return this;
        }

        /**
         * Horizontal shear of a mask, uniform in plus or minus this, at most 1000. Default 0.3.
         *
         * @param shearMax the largest shear
         * @return this
         */
        public Builder shearMax(float shearMax) {
            config.set("shear_max", shearMax);
            return this;
        }

        /**
         * Smoothing window, uniform over the odd numbers in this range, pixels, 1 to 15. Default 3, 7.
         *
         * @param least the narrowest window
         * @param most the widest window
         * @return this
         */
        public Builder smoothRangePx(int least, int most) {
            config.set("smooth_range_px", least, most);
            return this;
        }

        /**
         * Built-in views: probability of a horizontal flip. Default 0.
         *
         * @param pFlip the probability
         * @return this
         */
        public Builder pFlip(float pFlip) {
            config.set("p_flip", pFlip);
            return this;
        }

        /**
         * Built-in views: shift uniform in plus or minus this after zero padding, pixels. Default 0.
         *
         * @param padPx the largest shift
         * @return this
         */
        public Builder padPx(int padPx) {
            config.set("pad_px", padPx);
            return this;
        }

        /**
         * Label smoothing of class ids, 0 to 1. Default 0.
         *
         * @param labelSmoothing the smoothing
         * @return this
         */
        public Builder labelSmoothing(float labelSmoothing) {
            config.set("label_smoothing", labelSmoothing);
            return this;
        }

        /**
         * Threads of the operator, at most 256; 0: one for each core, or the calling thread alone in a child of
         * fork(). It changes no result. Default 0.
         *
         * @param nThreads the number of threads
         * @return this
         */
        public Builder nThreads(int nThreads) {
            config.set("n_threads", nThreads);
            return this;
        }

        /**
         * Makes the operator. The builder may be used again.
         *
         * @return the operator, to be closed
         * @throws MiamixArgumentException for the first parameter outside its range
         */
        public Miamix build() {
            return new Miamix(config.copy(), layout, numClasses);
        }
    }
}
