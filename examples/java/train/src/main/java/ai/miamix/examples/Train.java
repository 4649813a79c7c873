package ai.miamix.examples;

import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.Activation;
import ai.djl.nn.Block;
import ai.djl.nn.Blocks;
import ai.djl.nn.SequentialBlock;
import ai.djl.nn.convolutional.Conv2d;
import ai.djl.nn.core.Linear;
import ai.djl.nn.norm.BatchNorm;
import ai.djl.nn.pooling.Pool;
import ai.djl.training.DefaultTrainingConfig;
import ai.djl.training.GradientCollector;
import ai.djl.training.Trainer;
import ai.djl.training.loss.Loss;
import ai.djl.training.optimizer.Optimizer;
import ai.djl.training.tracker.Tracker;
import ai.miamix.Batch;
import ai.miamix.DType;
import ai.miamix.Miamix;
import ai.miamix.MixResult;
import ai.miamix.Tensor;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * A small net, trained with DJL on random crops of pictures, with MiAMix and without it.
 *
 * <pre>{@code mvn -f examples/java/train compile exec:java -Dexec.args="--images photographs"}</pre>
 */
public final class Train {
    private static final String USAGE = "--images DIR (a folder a class, pictures that are each a class, or train/ and test/)"
            + " [--epochs 12] [--plain-epochs 2] [--samples 1024] [--batch-size 32] [--size 48] [--seed 0]";

    private final Pictures train;
    private final Pictures test;
    private final int epochs;
    private final int plainEpochs;
    private final int samples;
    private final int batchSize;
    private final int size;
    private final int seed;

    private Train(Pictures.Split split, Map<String, Integer> options) {
        train = split.train();
        test = split.test();
        epochs = options.get("--epochs");
        plainEpochs = options.get("--plain-epochs");
        samples = options.get("--samples");
        batchSize = options.get("--batch-size");
        size = options.get("--size");
        seed = options.get("--seed");
    }

    /**
     * Trains twice and prints losses and accuracies.
     *
     * @param arguments as the class says
     * @throws IOException if a picture cannot be read
     */
    public static void main(String[] arguments) throws IOException {
        Path images = null;
        Map<String, Integer> options = new LinkedHashMap<>(Map.of("--epochs", 12, "--plain-epochs", 2, "--samples", 1024,
                "--batch-size", 32, "--size", 48, "--seed", 0));
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            if (arguments[i].equals("--images")) {
                images = Path.of(arguments[i + 1]);
            } else if (options.replace(arguments[i], Integer.valueOf(arguments[i + 1])) == null) {
                throw new IllegalArgumentException(arguments[i] + ": no such option; " + USAGE);
            }
        }
        if (images == null || arguments.length % 2 == 1) {
            throw new IllegalArgumentException(USAGE);
        }
        Pictures.Split split = Pictures.read(images);
        int classes = split.train().names().size();
        if (classes < 2) {
            throw new IllegalArgumentException(images + ": must have pictures of two classes or more, got " + classes);
        }
        Train task = new Train(split, options);
        System.out.println("with MiAMix");
        double mixed = task.run(true);
        System.out.println("without");
        double plain = task.run(false);
        System.out.printf("%d classes; accuracy on %d test crops:%n", classes, task.samples / 2);
        System.out.printf("  with MiAMix %5.1f %%%n  without     %5.1f %%%n  chance      %5.1f %%%n", 100 * mixed,
                100 * plain, 100.0 / classes);
    }

    private Block net() {
        SequentialBlock net = new SequentialBlock();
        for (int channels : new int[] {16, 32, 64}) {
            net.add(Conv2d.builder().setFilters(channels).setKernelShape(new Shape(3, 3)).optPadding(new Shape(1, 1))
                    .optBias(false).build());
            net.add(BatchNorm.builder().build());
            net.add(Activation::relu);
            net.add(Pool.maxPool2dBlock(new Shape(2, 2), new Shape(2, 2)));
        }
        net.add(Pool.globalAvgPool2dBlock());
        net.add(Blocks.batchFlattenBlock());
        net.add(Linear.builder().setUnits(train.names().size()).build());
        return net;
    }

    /** The accuracy on test crops after training. */
    private double run(boolean mixing) {
        Engine.getEngine("PyTorch").setRandomSeed(seed);
        // Targets are rows, and the net gives no probabilities but logits.
        Loss loss = Loss.softmaxCrossEntropyLoss("loss", 1, -1, false, true);
        DefaultTrainingConfig config = new DefaultTrainingConfig(loss)
                .optOptimizer(Optimizer.adam().optLearningRateTracker(Tracker.fixed(2e-3f)).build());
        // Made once and used again for every batch: no memory of a batch's size is allocated in the loop.
        Tensor images = Tensor.allocate(DType.FLOAT32, batchSize, 3, size, size);
        Tensor secondViews = Tensor.allocate(DType.FLOAT32, batchSize, 3, size, size);
        Tensor labels = Tensor.allocate(DType.INT64, batchSize);
        Batch batch = new Batch(images, secondViews, labels);
        Miamix.Builder builder = Miamix.builder().numClasses(train.names().size()).labelSmoothing(0.05f);
        try (Miamix miamix = builder.build();
                // An operator that mixes nothing: the same targets, from images as they are.
                Miamix plain = builder.pApply(0).build();
                Model model = Model.newInstance("net", "PyTorch")) {
            MixResult mixed = miamix.allocate(batch);
            model.setBlock(net());
            try (Trainer trainer = model.newTrainer(config)) {
                trainer.initialize(new Shape(batchSize, 3, size, size));
                for (int epoch = 0; epoch < epochs; epoch++) {
                    // As the papers do it: the last epochs see images as they are.
                    boolean mixes = mixing && epoch < epochs - plainEpochs;
                    double total = 0;
                    int steps = samples / batchSize;
                    for (int step = 0; step < steps; step++) {
                        // The running counter names the plan; one seed serves the whole run.
                        long firstSample = ((long) epoch * steps + step) * batchSize;
                        fill(firstSample, images.asFloatBuffer(), secondViews.asFloatBuffer(), labels.asLongBuffer());
                        (mixes ? miamix : plain).mix(batch, seed, firstSample, mixed);
                        total += step(trainer, mixed);
                    }
                    System.out.printf("  epoch %d: loss %.3f%s%n", epoch + 1, total / steps, mixes ? "" : ", not mixed");
                }
                return accuracy(trainer);
            }
        }
    }

    /** Two independent views of each sample of a batch, as a sample that is mixed with itself needs them. */
    private void fill(long firstSample, FloatBuffer images, FloatBuffer secondViews, LongBuffer labels) {
        for (int i = 0; i < batchSize; i++) {
            SplittableRandom random = new SplittableRandom(((long) seed << 40) + firstSample + i);
            Pictures.Picture picture = train.pictures().get(random.nextInt(train.pictures().size()));
            train.crop(picture, random, size, images);
            train.crop(picture, random, size, secondViews);
            labels.put(picture.label());
        }
    }

    private double step(Trainer trainer, MixResult mixed) {
        try (NDManager manager = trainer.getManager().newSubManager()) {
            NDArray images = array(manager, mixed.images());
            NDArray targets = array(manager, java.util.Objects.requireNonNull(mixed.labels()));
            float loss;
            try (GradientCollector collector = trainer.newGradientCollector()) {
                NDArray value = trainer.getLoss().evaluate(new NDList(targets), trainer.forward(new NDList(images)));
                collector.backward(value);
                loss = value.getFloat();
            }
            trainer.step();
            return loss;
        }
    }

    private static NDArray array(NDManager manager, Tensor tensor) {
        return manager.create(tensor.asByteBuffer(), new Shape(tensor.shape()), DataType.FLOAT32);
    }

    private double accuracy(Trainer trainer) {
        Tensor images = Tensor.allocate(DType.FLOAT32, batchSize, 3, size, size);
        int right = 0;
        int count = 0;
        SplittableRandom random = new SplittableRandom(seed);
        while (count < samples / 2) {
            FloatBuffer pixels = images.asFloatBuffer();
            int[] labels = new int[batchSize];
            for (int i = 0; i < batchSize; i++) {
                Pictures.Picture picture = test.pictures().get(random.nextInt(test.pictures().size()));
                test.crop(picture, random, size, pixels);
                labels[i] = picture.label();
            }
            try (NDManager manager = trainer.getManager().newSubManager()) {
                NDList out = trainer.evaluate(new NDList(array(manager, images)));
                long[] guesses = out.singletonOrThrow().argMax(1).toLongArray();
                for (int i = 0; i < batchSize && count < samples / 2; i++, count++) {
                    right += guesses[i] == labels[i] ? 1 : 0;
                }
            }
        }
        return (double) right / count;
    }
}
