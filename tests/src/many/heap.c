/* Loaded before everything else into a program under test (LD_PRELOAD): writes once a second into the file that MILLRACE_TEST_HEAP
 * names how many bytes the program has allocated and not freed. Resident memory does not tell: glibc keeps freed pages. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *watch(void *file) {
    for (;; sleep(1)) {
        struct mallinfo2 heap = mallinfo2();
        char line[32];
        int length = snprintf(line, sizeof line, "%20zu\n", heap.uordblks + heap.hblkhd);
        if (pwrite((int)(intptr_t)file, line, (size_t)length, 0) < 0) return NULL;
    }
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MILLRACE_TEST_HEAP");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    pthread_t thread;
    if (file >= 0 && pthread_create(&thread, NULL, watch, (void *)(intptr_t)file) == 0) pthread_detach(thread);
}
