#include "shell/bus_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

/* A slot is free while `size` is 0. The handler reads slots without a lock: `size` is
 * written last on adding and first on removing. */
struct range {
    _Atomic uintptr_t start;
    _Atomic size_t size;
    _Atomic(_Atomic bool *) damaged;
};

static struct range ranges[BUS_GUARD_RANGES_MAX];
static _Atomic size_t range_count; /* Slots ever used: the handler looks no further. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;
static uintptr_t page_bytes;

static struct range *find(uintptr_t address)
{
    size_t count = atomic_load(&range_count);
    for (size_t i = 0; i < count; i++) {
        uintptr_t start = atomic_load(&ranges[i].start);
        size_t size = atomic_load(&ranges[i].size);
        if (size > 0 && address >= start && address - start < size) return &ranges[i];
    }
    return NULL;
}

/* mmap() is a plain system call on Linux, which a handler may make. */
static bool replace_page(uintptr_t address)
{
    union {
        uintptr_t number;
        void *pointer;
    } page = {.number = address & ~(page_bytes - 1)};
    return mmap(page.pointer, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                0) != MAP_FAILED;
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
        return;
    }
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
        return;
    }
    /* The instruction is run again on return, and then ends the process. */
    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

static void handle(int signal, siginfo_t *info, void *context)
{
    int error = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    struct range *range = find(address);

    if (range != NULL && replace_page(address))
        atomic_store_explicit(atomic_load(&range->damaged), true, memory_order_release);
    else
        pass_on(signal, info, context);
    errno = error;
}

static bool is_installed(void)
{
    struct sigaction now;
    return sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
           now.sa_sigaction == handle;
}

enum status bus_guard_install(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    bool installed = true;

    pthread_mutex_lock(&lock);
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (!is_installed()) installed = sigaction(SIGBUS, &action, &before) == 0;
    pthread_mutex_unlock(&lock);
    return installed ? STATUS_OK : STATUS_DENIED;
}

static struct range *find_free(void)
{
    size_t count = atomic_load(&range_count);
    for (size_t i = 0; i < count; i++)
        if (atomic_load(&ranges[i].size) == 0) return &ranges[i];
    if (count == BUS_GUARD_RANGES_MAX) return NULL;
    atomic_store(&range_count, count + 1);
    return &ranges[count];
}

enum status bus_guard_add(const void *start, size_t size, _Atomic bool *damaged)
{
    CHECK(size > 0);
    pthread_mutex_lock(&lock);
    struct range *range = find_free();
    if (range != NULL) {
        atomic_store(&range->start, (uintptr_t)start);
        atomic_store(&range->damaged, damaged);
        atomic_store(&range->size, size);
    }
    pthread_mutex_unlock(&lock);
    return range != NULL ? STATUS_OK : STATUS_LIMIT;
}

void bus_guard_remove(const void *start)
{
    pthread_mutex_lock(&lock);
    struct range *range = find((uintptr_t)start);
    CHECK(range != NULL);
    CHECK(atomic_load(&range->start) == (uintptr_t)start);
    atomic_store(&range->size, 0);
    pthread_mutex_unlock(&lock);
}
