#include "shell/grace.h"

#include <urcu-qsbr.h>

#if defined(__SANITIZE_THREAD__)
#define GRACE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GRACE_TSAN 1
#endif
#endif

#ifdef GRACE_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
static char order;
#define TELL_ACQUIRE() __tsan_acquire(&order)
#define TELL_RELEASE() __tsan_release(&order)
#else
#define TELL_ACQUIRE() ((void)0)
#define TELL_RELEASE() ((void)0)
#endif

void grace_register(void)
{
    urcu_qsbr_register_thread();
    urcu_qsbr_thread_offline();
}

void grace_unregister(void)
{
    urcu_qsbr_unregister_thread();
}

void grace_online(void)
{
    urcu_qsbr_thread_online();
}

void grace_offline(void)
{
    TELL_RELEASE();
    urcu_qsbr_thread_offline();
}

void grace_wait(void)
{
    urcu_qsbr_synchronize_rcu();
    TELL_ACQUIRE();
}
