/* What ThreadSanitizer has to be told, because it cannot see it. Nothing in other builds. */
#pragma once

#if defined(__SANITIZE_THREAD__)
#define TSAN_ON 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN_ON 1
#endif
#endif

#ifdef TSAN_ON
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
void __sanitizer_syscall_pre_impl_close(long descriptor);
#endif

/* What happened before a release at `address` is seen after the next acquire there. */
static inline void tsan_release(void *address)
{
#ifdef TSAN_ON
    __tsan_release(address);
#endif
    (void)address;
}

static inline void tsan_acquire(void *address)
{
#ifdef TSAN_ON
    __tsan_acquire(address);
#endif
    (void)address;
}

/* `descriptor` is new. ThreadSanitizer learns that from open() and accept(), but not from
 * openat(); nor does it see libuv close a socket, which is a bare system call there. So a
 * file that gets the number of a socket closed on another thread would pass for that socket.
 * The hook for closing forgets what the number was, and does not count as a use of it here. */
static inline void tsan_descriptor_is_new(int descriptor)
{
#ifdef TSAN_ON
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    __sanitizer_syscall_pre_impl_close(descriptor);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
    (void)descriptor;
}
