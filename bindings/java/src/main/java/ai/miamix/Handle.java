package ai.miamix;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/**
 * An object of the library, which lives until its owner has closed it (or is collected) and the last call that uses it
 * has returned: so closing it in the middle of another thread's call does no harm.
 */
final class Handle implements Runnable {
    /** Objects that are not released yet: what a leak would raise. */
    static final AtomicLong LIVE = new AtomicLong();

    private static final Cleaner CLEANER = Cleaner.create();

    private final String name;
    private final long address;
    private final LongConsumer free;
    private final AtomicBoolean closed = new AtomicBoolean();
    /** The owner, and each call. */
    private final AtomicInteger uses = new AtomicInteger(1);

    /** Takes the object at {@code address}, which {@code free} releases. */
    Handle(String name, long address, LongConsumer free) {
        this.name = name;
        this.address = address;
        this.free = free;
        LIVE.incrementAndGet();
    }

    /** {@return what closes it, at the latest when {@code owner} is collected} */
    Cleaner.Cleanable ownedBy(Object owner) {
        return CLEANER.register(owner, this);
    }

    /**
     * {@return the address, valid until {@link #release}}
     *
     * @throws IllegalStateException if it is closed
     */
    long acquire() {
        if (!closed.get()) {
            for (int n = uses.get(); n > 0; n = uses.get()) {
                if (uses.compareAndSet(n, n + 1)) {
                    return address;
                }
            }
        }
        throw new IllegalStateException(name + ": must be open, got a closed one");
    }

    void release() {
        if (uses.decrementAndGet() == 0) {
            free.accept(address);
            LIVE.decrementAndGet();
        }
    }

    /** Closes it; once is enough. */
    @Override
    public void run() {
        if (closed.compareAndSet(false, true)) {
            release();
        }
    }
}
