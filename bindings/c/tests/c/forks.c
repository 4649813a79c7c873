/* First a child that is the first to make an operator: with n_threads 0 it works alone, as one worker of many.
 * Then forks while three threads mix: each child, and now and then a child of a child, mixes with what its parent had.
 *
 *     forks [NUMBER]     (1000; 0: the three threads alone)
 */
#define _GNU_SOURCE

#include "miamix.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* 12 KB an image: more than is mixed on the calling thread alone. */
enum { N = 12, C = 3, SIDE = 32, ELEMENTS = N * C * SIDE * SIDE, THREADS = 3, DEADLINE_S = 60 };

static miamix_op *by_default, *two_threads, *three_threads;
static miamix_plan *plan;
static float images[ELEMENTS], expected[ELEMENTS];
static int done = 0, failed = 0;

/* Mixes under the plan, and draws it anew; whether the result is the one expected. */
static int works(const miamix_op *op, float *out) {
    int64_t shape[4] = {N, C, SIDE, SIDE};
    miamix_tensor in, mixed;
    memset(&in, 0, sizeof in);
    in.data = images;
    in.device.device_type = MIAMIX_DEVICE_TYPE_CPU;
    in.ndim = 4;
    in.dtype.code = MIAMIX_DTYPE_CODE_FLOAT;
    in.dtype.bits = 32;
    in.dtype.lanes = 1;
    in.shape = shape;
    mixed = in;
    mixed.data = out;
    memset(out, 0, sizeof expected);
    if (miamix_apply(op, plan, &in, NULL, NULL, 0, &mixed, NULL, NULL, NULL, NULL) != MIAMIX_STATUS_OK ||
        memcmp(out, expected, sizeof expected) != 0) {
        return 0;
    }
    memset(out, 0, sizeof expected);
    return miamix_mix(op, 7, 0, &in, NULL, NULL, 0, &mixed, NULL, NULL, NULL, NULL) == MIAMIX_STATUS_OK &&
           memcmp(out, expected, sizeof expected) == 0;
}

static void *mix_on(void *op) {
    float *out = (float *)malloc(sizeof expected);
    do {
        if (!works((const miamix_op *)op, out)) {
            __atomic_store_n(&failed, 1, __ATOMIC_RELEASE);
        }
    } while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE));
    free(out);
    return NULL;
}

/* In a child: 0 if it works. A child that hangs is ended by its alarm. */
static int child(int i) {
    static float out[ELEMENTS];
    const miamix_op *ops[3] = {by_default, two_threads, three_threads};
    alarm(DEADLINE_S);
    if (!works(ops[i % 3], out)) {
        return 1;
    }
    if (i % 10 == 0) {
        int status = -1;
        pid_t grandchild = fork();
        if (grandchild == 0) {
            alarm(DEADLINE_S);
            _exit(works(ops[(i / 10 + 1) % 3], out) ? 0 : 1);
        }
        return grandchild > 0 && waitpid(grandchild, &status, 0) == grandchild && status == 0 ? 0 : 1;
    }
    return 0;
}

static miamix_op *op_of(uint32_t n_threads) {
    miamix_config config;
    miamix_op *op = NULL;
    if (miamix_config_init(&config, sizeof config) != MIAMIX_STATUS_OK) {
        return NULL;
    }
    config.n_threads = n_threads;
    miamix_op_create(&config, &op);
    return op;
}

/* How many threads this process has. */
static int n_threads_here(void) {
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;
    while (tasks != NULL && readdir(tasks) != NULL) {
        n++;
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
    return n - 2; /* without . and .. */
}

/* As a data loader's worker does where the operator is made when it is first needed. */
static void make_in_a_child(const miamix_shape *shape) {
    pid_t pid;
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        static float out[ELEMENTS];
        miamix_op *op = op_of(0);
        alarm(DEADLINE_S);
        if (miamix_plan_draw(op, shape, 7, 0, &plan) != MIAMIX_STATUS_OK) {
            _exit(1);
        }
        works(op, out);
        printf("made in a child: %d thread\n", n_threads_here());
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    const int n_forks = argc > 1 ? atoi(argv[1]) : 1000;
    const miamix_shape shape = {N, SIDE, SIDE};
    pthread_t threads[THREADS];
    int i, n_failed = 0;
    for (i = 0; i < ELEMENTS; i++) {
        images[i] = (float)(i % 8191);
    }
    make_in_a_child(&shape);
    by_default = op_of(0), two_threads = op_of(2), three_threads = op_of(3);
    if (miamix_plan_draw(by_default, &shape, 7, 0, &plan) != MIAMIX_STATUS_OK) {
        printf("%s\n", miamix_last_error_message());
        return 1;
    }
    { /* What is expected: the result of one thread. */
        miamix_op *one = op_of(1);
        static float out[ELEMENTS];
        works(one, out); /* compares with nothing yet */
        memcpy(expected, out, sizeof expected);
        miamix_op_free(one);
    }
    for (i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, mix_on, i == 0 ? by_default : i == 1 ? two_threads : three_threads);
    }
    for (i = 0; i < n_forks; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            _exit(child(i));
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
            printf("fork %d: %s\n", i, WIFSIGNALED(status) ? "the child hung or crashed" : "the child failed");
            n_failed++;
        }
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    miamix_plan_free(plan);
    miamix_op_free(by_default), miamix_op_free(two_threads), miamix_op_free(three_threads);
    printf("%d forks, %d failed\n", n_forks, n_failed + failed);
    return n_failed + failed == 0 ? 0 : 1;
}
