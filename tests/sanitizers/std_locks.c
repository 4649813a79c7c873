// What ThreadSanitizer cannot see in Rust's standard library, which comes compiled without it.
//
// Taking and leaving a lock that is free is compiled into the caller, where it is seen. Waiting is not: without these two
// functions whatever is handed over under a lock that had to be waited for would be taken for a race. The linker puts
// them around the library's own (--wrap); LOCK is the symbol of Mutex::lock_contended(&self), WAIT of
// Condvar::wait(&self, &Mutex), which leaves the lock, waits, and takes it again. A lock is a word, at its own address.

void __tsan_acquire(const void *address);
void __tsan_release(const void *address);

#define JOIN(a, b) a##b
#define REAL(name) JOIN(__real_, name)
#define WRAP(name) JOIN(__wrap_, name)

void REAL(LOCK)(const void *mutex);
void REAL(WAIT)(const void *condvar, const void *mutex);

void WRAP(LOCK)(const void *mutex) {
    REAL(LOCK)(mutex);
    __tsan_acquire(mutex);
}

void WRAP(WAIT)(const void *condvar, const void *mutex) {
    __tsan_release(mutex);
    REAL(WAIT)(condvar, mutex);
    __tsan_acquire(mutex);
}
